//! What can be followed. Does not know when a source is read.

use std::fmt::Display;
use std::time::SystemTime;

/// A source of values: how it is read, and what its content means.
pub trait Source: Send + 'static {
    /// What is read, before it is parsed.
    type Content: PartialEq + Send;
    /// What the content means.
    type Value: Send;
    /// Why it cannot be read or parsed. Its text is logged, so it must contain no secret.
    type Error: Display + Send;

    /// Reads the source as it is now. May block.
    ///
    /// # Errors
    /// If the source cannot be read.
    fn read(&mut self) -> Result<Reading<Self::Content>, Self::Error>;

    /// Parses a content. May block.
    ///
    /// # Errors
    /// If the content is invalid.
    fn parse(&mut self, content: &Self::Content) -> Result<Self::Value, Self::Error>;
}

/// What one look at a source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<C> {
    /// The content.
    pub content: C,
    /// When its files were modified; empty for a source without files. A writer changes the time even while the content
    /// is still the same.
    pub modified: Vec<SystemTime>,
}
