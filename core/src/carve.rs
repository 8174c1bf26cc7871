//! Cutting a caller's buffer into the slices that a shape asks for, with an error instead of a panic when it is short.

use crate::Error;

/// The rest of a buffer.
pub(crate) struct Carver<'a, T> {
    rest: &'a mut [T],
    argument: &'static str,
    expected: usize,
    found: usize,
}

impl<'a, T> Carver<'a, T> {
    /// Starts on a buffer that should have `expected` words.
    pub(crate) fn new(buffer: &'a mut [T], argument: &'static str, expected: usize) -> Self {
        let found = buffer.len();
        Self { rest: buffer, argument, expected, found }
    }

    /// The next `words` words.
    pub(crate) fn take(&mut self, words: usize) -> Result<&'a mut [T], Error> {
        let (argument, expected, found) = (self.argument, self.expected, self.found);
        let (head, tail) = core::mem::take(&mut self.rest)
            .split_at_mut_checked(words)
            .ok_or(Error::Length { argument, expected, found })?;
        self.rest = tail;
        Ok(head)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a mut [T] {
        self.rest
    }
}
