//! One axis of a convolution: a kernel that slides along one side of an image.
//!
//! ```text
//! span       dilation (kernel - 1) + 1
//! positions  floor((length + 2 padding - span) / stride) + 1
//! ```
//!
//! *Invariant*: plain data. *Cost*: none at run time that a constant could not take. *Failure*: sizes that overflow saturate, and
//! [`Convolution::check`](super::Convolution::check) refuses them.

use crate::Error;
use core::ops::Range;

/// One axis of an image, and of the kernel that slides along it.
///
/// ```
/// use ekfac::convolution::Axis;
/// const AXIS: Axis = Axis::new(28, 3).stride(2).padding(1);
/// assert_eq!((AXIS.span(), AXIS.positions()), (3, 14));
/// assert_eq!(AXIS.dilation(4).positions(), 11);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Axis {
    pub(super) length: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) dilation: usize,
}

impl Axis {
    /// A kernel of this size on an axis of this length: stride 1, no padding, dilation 1.
    pub const fn new(length: usize, kernel: usize) -> Self {
        Self { length, kernel, stride: 1, padding: 0, dilation: 1 }
    }

    /// The same with a step between two positions of the kernel.
    #[must_use]
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with so many zeros on both ends.
    #[must_use]
    pub const fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// The same with a step between two elements of the kernel.
    #[must_use]
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// The length of the image along this axis.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The size of the kernel along this axis.
    pub const fn kernel(&self) -> usize {
        self.kernel
    }

    /// How far the kernel reaches, dilation (kernel - 1) + 1.
    pub const fn span(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// Positions of the kernel; 0 where it does not fit.
    pub const fn positions(&self) -> usize {
        match (self.padded().checked_sub(self.span()), self.stride) {
            (Some(room), 1..) => room / self.stride + 1,
            _ => 0,
        }
    }

    const fn padded(&self) -> usize {
        self.length.saturating_add(self.padding.saturating_mul(2))
    }

    pub(super) const fn check(&self) -> Result<(), Error> {
        if self.length == 0 {
            return Err(Error::Empty { argument: "length" });
        }
        if self.kernel == 0 {
            return Err(Error::Empty { argument: "kernel" });
        }
        if self.stride == 0 {
            return Err(Error::Empty { argument: "stride" });
        }
        if self.dilation == 0 {
            return Err(Error::Empty { argument: "dilation" });
        }
        if self.padded() == usize::MAX || self.span() == usize::MAX {
            return Err(Error::SizeOverflow { argument: "axis" });
        }
        if self.positions() == 0 { Err(Error::OutOfRange { argument: "kernel", index: 0 }) } else { Ok(()) }
    }

    /// The positions among these at which an element of the kernel lies in the image.
    pub(super) fn inside(&self, positions: &Range<usize>, element: usize) -> Range<usize> {
        let (before, stride) = (element * self.dilation, self.stride.max(1));
        let first = |place: usize| {
            // Not `clamp`, which can panic.
            place.saturating_sub(before).div_ceil(stride).max(positions.start).min(positions.end)
        };
        first(self.padding)..first(self.padding + self.length)
    }

    /// How many elements of the kernel lie on this place of the image, at one position or another.
    pub(super) fn meetings(&self, place: usize) -> usize {
        let (stride, positions) = (self.stride.max(1), self.positions());
        let meets = |element: &usize| {
            let start = (place + self.padding).checked_sub(element * self.dilation);
            start.is_some_and(|start| start % stride == 0 && start / stride < positions)
        };
        (0..self.kernel).filter(meets).count()
    }

    /// The step between two positions of the kernel.
    pub(super) fn step(&self) -> usize {
        self.stride
    }

    /// Where in the image an element of the kernel lies at one position; `None` in the padding.
    pub(super) fn tap(&self, position: usize, element: usize) -> Option<usize> {
        let place = position * self.stride + element * self.dilation;
        place.checked_sub(self.padding).filter(|place| *place < self.length)
    }
}
