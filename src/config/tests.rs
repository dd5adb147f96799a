//! Tests of the whole way from text to plan, and of what is said when there is none.
