module github.com/flowmesh/libflowmesh/bindings/go

go 1.24
