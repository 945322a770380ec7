//! Who runs containers, in our own words.
