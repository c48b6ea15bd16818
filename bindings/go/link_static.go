//go:build flowmesh_static

package flowmesh

// The archive is named before what pkg-config says, so the shared library is not needed any more.

// #cgo pkg-config: --static flowmesh
// #cgo LDFLAGS: -Wl,--as-needed -l:libflowmesh.a
import "C"
