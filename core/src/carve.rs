//! Cutting a caller's buffer into the slices that a shape asks for, with an error instead of a panic when it is short.

use crate::Error;

/// Cuts the next `words` words off a buffer; `None`, and an empty rest, where it is shorter.
pub(crate) fn cut<'a, T>(rest: &mut &'a mut [T], words: usize) -> Option<&'a mut [T]> {
    let (head, tail) = core::mem::take(rest).split_at_mut_checked(words)?;
    *rest = tail;
    Some(head)
}

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
        cut(&mut self.rest, words).ok_or(Error::Length { argument, expected, found })
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a mut [T] {
        self.rest
    }
}
