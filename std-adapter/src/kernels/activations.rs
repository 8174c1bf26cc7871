//! Activations, and the way back through them, in the widest vectors of this machine.
//!
//! *Invariant*: each element is core's own [`Activation::value`] or [`Activation::derivative`], so the bits are core's. What vectors
//! gain is one choice of the activation for a whole slice, where core, which is to be small, chooses for every element; sigmoid, GELU
//! and tanh itself are as they were, since their exponentials go element by element. *Cost*: a pass over the slices. *Failure*: none.

use ekfac::{Activation, Scalar};
use pulp::{Arch, NullaryFnOnce};

/// h = activation(z), element by element; whether every z is finite.
pub(super) fn activate<T: Scalar>(activation: Activation, z: &[T], h: &mut [T]) -> bool {
    Arch::new().dispatch(Activate { activation, z, h })
}

/// Whether all are finite.
pub(super) fn are_finite<T: Scalar>(z: &[T]) -> bool {
    Arch::new().dispatch(AreFinite(z))
}

/// g <- g dh/dz, element by element.
pub(super) fn through<T: Scalar>(activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
    Arch::new().dispatch(Through { activation, g, z, h });
}

struct Activate<'w, T> {
    activation: Activation,
    z: &'w [T],
    h: &'w mut [T],
}

impl<T: Scalar> NullaryFnOnce for Activate<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self { activation, z, h } = self;
        // By name in the arms, so that the choice is made here.
        match activation {
            Activation::Identity => fill(h, z, |z| z),
            Activation::Relu => fill(h, z, |z| Activation::Relu.value(z)),
            Activation::LeakyRelu => fill(h, z, |z| Activation::LeakyRelu.value(z)),
            other => fill(h, z, |z| other.value(z)),
        }
        AreFinite(z).call()
    }
}

#[inline(always)]
fn fill<T: Scalar>(h: &mut [T], z: &[T], value: impl Fn(T) -> T) {
    h.iter_mut().zip(z).for_each(|(h, z)| *h = value(*z));
}

struct AreFinite<'w, T>(&'w [T]);

impl<T: Scalar> NullaryFnOnce for AreFinite<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        self.0.iter().fold(true, |finite, z| finite & z.is_finite())
    }
}

struct Through<'w, T> {
    activation: Activation,
    g: &'w mut [T],
    z: &'w [T],
    h: &'w [T],
}

impl<T: Scalar> NullaryFnOnce for Through<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { activation, g, z, h } = self;
        match activation {
            Activation::Identity => {}
            Activation::Relu => multiply(g, z, h, |z, h| Activation::Relu.derivative(z, h)),
            Activation::LeakyRelu => multiply(g, z, h, |z, h| Activation::LeakyRelu.derivative(z, h)),
            Activation::Tanh => multiply(g, z, h, |z, h| Activation::Tanh.derivative(z, h)),
            Activation::Sigmoid => multiply(g, z, h, |z, h| Activation::Sigmoid.derivative(z, h)),
            other => multiply(g, z, h, |z, h| other.derivative(z, h)),
        }
    }
}

#[inline(always)]
fn multiply<T: Scalar>(g: &mut [T], z: &[T], h: &[T], derivative: impl Fn(T, T) -> T) {
    g.iter_mut().zip(z.iter().zip(h)).for_each(|(g, (z, h))| *g *= derivative(*z, *h));
}
