//! The simulator held against what is published, and against what must hold for every run.

mod study;
