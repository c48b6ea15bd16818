//go:build !flowmesh_static

package flowmesh

// #cgo pkg-config: flowmesh
import "C"
