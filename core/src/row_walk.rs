//! A walk over the pairs of a large factor, a row of C at a time, that lists its turns.
//!
//! Row p of the packed C has a word in every column beyond p, so that a turn in the plane (p, q) would go over words that lie far apart.
//! Here row p is copied out as soon as a pair of it is to be rotated, and a column k beyond q takes the turns of the row only when the walk reaches it,
//! all at once, in the words (c_pk, c_qk) of each. *Invariant*: every word sees the same operations in the same order as in
//! [`walk`](crate::jacobi::walk), and no pair is looked at before its words are what they are there: the same bits. *Cost*: that of
//! the walk, n words for the row and a list of turns. *Failure*: none; a full list ends the walk at its cursor, from where it can go on.

use crate::{
    Scalar,
    jacobi::{Budget, Cursor, Negligible, Walked, first_held, seek},
    rotation::Rotation,
    turns::{Listed, listed, unlisted},
};

/// So many columns are reached together: each waits for its own last turn.
const TOGETHER: usize = 64;

/// A walk, as [`Elementwise`](crate::kernels::Elementwise) work.
#[derive(Debug)]
pub(crate) struct RowWalk<'w, T> {
    /// The words of the stored cursor.
    pub(crate) cursor: &'w mut [T],
    pub(crate) covariance: &'w mut [T],
    pub(crate) size: usize,
    pub(crate) negligible: Negligible<T>,
    /// No more rotations than the list has room for.
    pub(crate) budget: Budget,
    /// What the walk has done, counted from zero.
    pub(crate) walked: &'w mut Walked,
    /// n words.
    pub(crate) row: &'w mut [T],
    pub(crate) turns: &'w mut [Listed<T>],
}

impl<T: Scalar> RowWalk<'_, T> {
    /// Walks until the budget is spent.
    #[inline(always)]
    pub(crate) fn go(mut self) {
        let mut cursor = Cursor::stored(self.cursor);
        // Until a pair is found nothing waits, and C is as it is read.
        while let Some(pair) =
            seek(self.covariance, self.size, &mut cursor, self.negligible, self.budget, self.walked)
        {
            if self.rest_of_row(pair, &mut cursor).is_none() {
                return;
            }
        }
        cursor.normal(self.size).store(self.cursor);
    }

    /// Words that it goes over, at most: two lines for each rotation.
    pub(crate) fn words(&self) -> usize {
        (self.budget.rotations as usize).saturating_mul(2 * self.size)
    }

    /// Annihilates the pair that was found, and walks on to the end of its row; `None` where C is too short to have one.
    #[inline(always)]
    fn rest_of_row(&mut self, (p, first): (usize, usize), cursor: &mut Cursor) -> Option<()> {
        let (head, beyond) = self.covariance.split_at_mut_checked(first_held(p + 1))?;
        let (above, on_diagonal) = head.get_mut(first_held(p)..)?.split_at_mut_checked(p)?;
        let words = self.row.get_mut(..self.size.checked_sub(p + 1)?)?;
        let mut row = Row { p, above, on_diagonal: on_diagonal.first_mut()?, beyond, words, reached: first };
        row.copy_out();
        row.reach(first + TOGETHER, &[]);
        let begun = (self.walked.rotations as usize).checked_sub(1)?;
        let mut found = Some(first);
        while let Some(q) = found {
            let count = self.walked.rotations as usize;
            *self.turns.get_mut(count - 1)? = listed(p, q, &row.annihilate(q)?);
            *cursor = Cursor { row: p, column: q + 1 };
            found = None;
            if self.walked.rotations < self.budget.rotations {
                let turns = self.turns.get(begun..count)?;
                found = row.seek(cursor, turns, self.negligible, self.budget, self.walked);
            }
        }
        row.reach(self.size, self.turns.get(begun..self.walked.rotations as usize)?);
        row.copy_back();
        Some(())
    }
}

/// Row p of C, apart from the rest.
struct Row<'r, T> {
    p: usize,
    /// Column p above the diagonal.
    above: &'r mut [T],
    /// c_pp.
    on_diagonal: &'r mut T,
    /// The columns beyond p; what they have of row p is stale.
    beyond: &'r mut [T],
    /// c_pk for k > p.
    words: &'r mut [T],
    /// Columns before this one have all turns of the row.
    reached: usize,
}

impl<T: Scalar> Row<'_, T> {
    /// Where column k begins among those beyond p.
    fn start(&self, k: usize) -> usize {
        first_held(k) - first_held(self.p + 1)
    }

    #[inline(always)]
    fn copy_out(&mut self) {
        let mut index = self.p;
        for (k, word) in self.words.iter_mut().enumerate() {
            *word = self.beyond.get(index).copied().unwrap_or(T::ZERO);
            index += self.p + k + 2;
        }
    }

    #[inline(always)]
    fn copy_back(&mut self) {
        let mut index = self.p;
        for (k, word) in self.words.iter().enumerate() {
            if let Some(into) = self.beyond.get_mut(index) {
                *into = *word;
            }
            index += self.p + k + 2;
        }
    }

    /// Brings the columns up to this one to where these turns of the row have led.
    #[inline(always)]
    fn reach(&mut self, end: usize, turns: &[Listed<T>]) {
        let last = end.min(self.p + 1 + self.words.len());
        while self.reached < last {
            let (first, next) = (self.reached, last.min(self.reached + TOGETHER));
            self.reached = next;
            let (start, end, p) = (self.start(first), self.start(next), self.p);
            let words = self.words.get_mut(first - p - 1..next - p - 1).unwrap_or_default();
            let columns = self.beyond.get_mut(start..end).unwrap_or_default();
            for turn in turns {
                let (_, q, rotation) = unlisted(turn);
                turn_across(words, columns, first, q, &rotation);
            }
        }
    }

    /// [`seek`](crate::jacobi::seek) in this row, given the turns that wait for the columns beyond those that are reached.
    #[inline(always)]
    fn seek(
        &mut self,
        cursor: &mut Cursor,
        turns: &[Listed<T>],
        negligible: Negligible<T>,
        budget: Budget,
        walked: &mut Walked,
    ) -> Option<usize> {
        let (p, first) = (self.p, cursor.column);
        let mut diagonal = self.start(first) + first;
        for q in first..p + 1 + self.words.len() {
            cursor.column = q;
            if walked.checks == budget.checks {
                return None;
            }
            walked.checks += 1;
            if q == self.reached {
                self.reach(q + TOGETHER, turns);
            }
            let (c_pq, c_qq) = (self.words.get(q - p - 1)?, self.beyond.get(diagonal)?);
            diagonal += q + 2;
            if !negligible.holds(*c_pq, *self.on_diagonal, *c_qq) {
                walked.rotations += 1;
                return Some(q);
            }
        }
        *cursor = Cursor { row: p + 1, column: 0 };
        None
    }

    /// Annihilates c_pq in the columns that are reached.
    #[inline(always)]
    fn annihilate(&mut self, q: usize) -> Option<Rotation<T>> {
        let (p, start) = (self.p, self.start(q));
        let (between, onwards) = self.words.split_at_mut_checked(q - p - 1)?;
        let (here, next) = onwards.split_first_mut()?;
        let (column, columns) = self.beyond.get_mut(start..)?.split_at_mut_checked(q + 1)?;
        let (c_qq, column) = column.split_last_mut()?;
        let rotation = Rotation::annihilating(*self.on_diagonal, *c_qq, *here);
        let shift = rotation.tangent() * core::mem::take(here);
        *self.on_diagonal -= shift;
        *c_qq += shift;
        turn(self.above, column, &rotation);
        turn(between, column.get_mut(p + 1..)?, &rotation);
        turn_across(next.get_mut(..self.reached - q - 1)?, columns, q + 1, q, &rotation);
        Some(rotation)
    }
}

#[inline(always)]
fn turn<T: Scalar>(xs: &mut [T], ys: &mut [T], rotation: &Rotation<T>) {
    for (x, y) in xs.iter_mut().zip(ys) {
        (*x, *y) = rotation.turned(*x, *y);
    }
}

/// Turns c_pk, which are these words, and c_qk in as many columns from k on.
#[inline(always)]
fn turn_across<T: Scalar>(
    words: &mut [T],
    columns: &mut [T],
    mut k: usize,
    q: usize,
    rotation: &Rotation<T>,
) {
    let mut index = q;
    for word in words {
        if let Some(y) = columns.get_mut(index) {
            (*word, *y) = rotation.turned(*word, *y);
        }
        k += 1;
        index += k;
    }
}
