//! Matrices as borrowed slices: column-major, as in nalgebra, with sizes known at run time.
//!
//! A batch is a matrix with one example a column (inputs x N): its memory is that of a row-major N x inputs array, so
//! both conventions meet without a copy. Contiguous nalgebra matrices, static and dynamic, convert for free by `From`;
//! strided views are copied element by element ([`MatrixMut::copy_from`], [`MatrixRef::copy_to`]).

use crate::{Error, Scalar, error::expect_length};
use core::ops::Range;
use nalgebra as na;

/// A read-only column-major matrix.
///
/// ```
/// use ekfac::MatrixRef;
/// let fixed = nalgebra::matrix![1.0_f32, 2.0, 3.0; 4.0, 5.0, 6.0];
/// let view = MatrixRef::from(&fixed);
/// assert_eq!((view.rows(), view.columns(), view.get(1, 2)), (2, 3, Some(6.0)));
/// assert_eq!(view.to_nalgebra().column(1).sum(), 7.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T: Scalar> MatrixRef<'a, T> {
    /// A rows x columns matrix over a slice of exactly that length.
    ///
    /// # Errors
    /// [`Error::Length`] when the slice is shorter or longer.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Result<Self, Error> {
        expect_length("matrix", rows.saturating_mul(columns), data.len())?;
        Ok(Self { data, rows, columns, stride: rows })
    }

    /// A matrix over a slice whose length the caller has derived from the same sizes.
    pub(crate) fn over(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, stride: rows }
    }

    /// The first `rows` rows of this matrix.
    pub(crate) fn top(self, rows: usize) -> Self {
        Self { rows: rows.min(self.rows), ..self }
    }

    /// A part of this matrix, without a copy; `None` where it reaches beyond.
    ///
    /// ```
    /// use ekfac::MatrixRef;
    /// let matrix = nalgebra::matrix![1.0_f32, 2.0, 3.0; 4.0, 5.0, 6.0];
    /// let part = MatrixRef::from(&matrix).block(1..2, 1..3).unwrap();
    /// assert_eq!((part.rows(), part.columns(), part.get(0, 1)), (1, 2, Some(6.0)));
    /// assert!(MatrixRef::from(&matrix).block(0..3, 0..1).is_none());
    /// ```
    pub fn block(self, rows: Range<usize>, columns: Range<usize>) -> Option<Self> {
        if rows.end > self.rows || columns.end > self.columns {
            return None;
        }
        let (height, width) = (rows.end.checked_sub(rows.start)?, columns.end.checked_sub(columns.start)?);
        let start = columns.start.checked_mul(self.stride)?.checked_add(rows.start)?;
        let data = if height == 0 || width == 0 { &[] } else { self.data.get(start..)? };
        Some(Self { data, rows: height, columns: width, stride: self.stride })
    }

    /// One row, as a matrix of one row.
    pub(crate) fn row(self, index: usize) -> Self {
        Self { data: self.data.get(index..).unwrap_or_default(), rows: 1, ..self }
    }

    /// The first `columns` columns of this matrix.
    pub(crate) fn left(self, columns: usize) -> Self {
        Self { columns: columns.min(self.columns), ..self }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Distance in memory from one column to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The memory, columns one after another, `stride` apart.
    pub fn as_slice(&self) -> &'a [T] {
        self.data
    }

    /// The elements, of columns that follow one another; `stride` names the distance that is not the number of rows.
    pub(crate) fn whole(&self, stride: &'static str) -> Result<&'a [T], Error> {
        if self.columns > 1 {
            expect_length(stride, self.rows, self.stride)?;
        }
        Ok(self.data.get(..self.rows * self.columns).unwrap_or_default())
    }

    /// One element, or `None` outside.
    pub fn get(&self, row: usize, column: usize) -> Option<T> {
        self.column(column)?.get(row).copied()
    }

    /// One column, or `None` outside.
    pub fn column(&self, index: usize) -> Option<&'a [T]> {
        if index >= self.columns {
            return None;
        }
        let start = index.checked_mul(self.stride)?;
        self.data.get(start..start.checked_add(self.rows)?)
    }

    /// The columns, first to last.
    pub fn iter_columns(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        Columns { matrix: *self }
    }

    /// The same matrix as a nalgebra view, without a copy.
    pub fn to_nalgebra(self) -> na::DMatrixView<'a, T, na::U1, na::Dyn>
    where
        T: na::Scalar,
    {
        let strides = (na::U1, na::Dyn(self.stride));
        na::DMatrixView::from_slice_with_strides_generic(
            self.data,
            na::Dyn(self.rows),
            na::Dyn(self.columns),
            strides.0,
            strides.1,
        )
    }

    /// Copies into a nalgebra matrix or view of any storage.
    ///
    /// # Errors
    /// [`Error::Length`] when the sizes differ.
    pub fn copy_to<R: na::Dim, C: na::Dim, S: na::RawStorageMut<T, R, C>>(
        &self,
        target: &mut na::Matrix<T, R, C, S>,
    ) -> Result<(), Error> {
        expect_length("target rows", self.rows, target.nrows())?;
        expect_length("target columns", self.columns, target.ncols())?;
        for (mut into, from) in target.column_iter_mut().zip(self.iter_columns()) {
            into.iter_mut().zip(from).for_each(|(x, y)| *x = *y);
        }
        Ok(())
    }
}

impl<'a, T, R, C, S> From<&'a na::Matrix<T, R, C, S>> for MatrixRef<'a, T>
where
    T: Scalar,
    R: na::Dim,
    C: na::Dim,
    S: na::RawStorage<T, R, C> + na::IsContiguous,
{
    fn from(matrix: &'a na::Matrix<T, R, C, S>) -> Self {
        let (rows, columns) = matrix.shape();
        Self::over(matrix.as_slice(), rows, columns)
    }
}

/// The columns of the matrix that is left.
struct Columns<'a, T> {
    matrix: MatrixRef<'a, T>,
}

impl<'a, T> Iterator for Columns<'a, T> {
    type Item = &'a [T];

    fn next(&mut self) -> Option<&'a [T]> {
        let MatrixRef { data, rows, columns, stride } = &mut self.matrix;
        *columns = columns.checked_sub(1)?;
        // Columns of no rows are none to walk, however many there are.
        let column = data.get(..*rows).filter(|column| !column.is_empty())?;
        *data = data.get(*stride..).unwrap_or_default();
        Some(column)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.matrix.columns))
    }
}

/// A writable column-major matrix.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
}

impl<'a, T: Scalar> MatrixMut<'a, T> {
    /// A rows x columns matrix over a slice of exactly that length.
    ///
    /// # Errors
    /// [`Error::Length`] when the slice is shorter or longer.
    pub fn new(data: &'a mut [T], rows: usize, columns: usize) -> Result<Self, Error> {
        expect_length("matrix", rows.saturating_mul(columns), data.len())?;
        Ok(Self::over(data, rows, columns))
    }

    /// A matrix over a slice whose length the caller has derived from the same sizes.
    pub(crate) fn over(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The memory, columns one after another.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.data
    }

    /// The memory, for as long as the matrix was borrowed.
    pub fn into_mut_slice(self) -> &'a mut [T] {
        self.data
    }

    /// The same matrix, read-only.
    pub fn as_ref(&self) -> MatrixRef<'_, T> {
        MatrixRef::over(self.data, self.rows, self.columns)
    }

    pub(crate) fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { data: self.data, ..*self }
    }

    /// One column, or `None` outside.
    #[cfg(feature = "batches")]
    pub(crate) fn column_mut(&mut self, index: usize) -> Option<&mut [T]> {
        self.iter_columns_mut().nth(index)
    }

    /// The columns, first to last.
    pub fn iter_columns_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.data.chunks_mut(self.rows.max(1)).take(self.columns)
    }

    /// Copies from a nalgebra matrix or view of any storage.
    ///
    /// # Errors
    /// [`Error::Length`] when the sizes differ.
    pub fn copy_from<R: na::Dim, C: na::Dim, S: na::RawStorage<T, R, C>>(
        &mut self,
        source: &na::Matrix<T, R, C, S>,
    ) -> Result<(), Error> {
        expect_length("source rows", self.rows, source.nrows())?;
        expect_length("source columns", self.columns, source.ncols())?;
        for (into, from) in self.iter_columns_mut().zip(source.column_iter()) {
            into.iter_mut().zip(from.iter()).for_each(|(x, y)| *x = *y);
        }
        Ok(())
    }
}

impl<'a, T, R, C, S> From<&'a mut na::Matrix<T, R, C, S>> for MatrixMut<'a, T>
where
    T: Scalar,
    R: na::Dim,
    C: na::Dim,
    S: na::RawStorageMut<T, R, C> + na::IsContiguous,
{
    fn from(matrix: &'a mut na::Matrix<T, R, C, S>) -> Self {
        let (rows, columns) = matrix.shape();
        Self::over(matrix.as_mut_slice(), rows, columns)
    }
}
