//! libflowmesh.
