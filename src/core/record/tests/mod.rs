//! Tests of the record layer, a file a noun.
