//! Empty: the library's unit tests of this module start real threads. The checks are in
//! `crate::checks`.
