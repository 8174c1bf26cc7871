//! Whole numbers in the place of `f64` and of long divisions, against exact arithmetic.

use ekfac::{Config, LayerMut, MatrixRef, Preconditioner, Progress, Scalar, Shape};

/// ceil(share * count) in exact arithmetic.
fn exact(share: f32, count: u64) -> u64 {
    // share = numerator / 2^149 for every finite f32.
    let bits = share.to_bits();
    let (exponent, fraction) = ((bits >> 23).max(1), bits & 0x7F_FFFF);
    let mantissa = if bits >> 23 == 0 { fraction } else { fraction | 0x80_0000 };
    let product = u128::from(count) * u128::from(mantissa);
    let shift = 150 - exponent;
    if shift >= 128 {
        return u64::from(product > 0);
    }
    u64::try_from(product.div_ceil(1_u128 << shift)).unwrap()
}

#[test]
fn shares_are_rounded_up_exactly() {
    let (mut state, mut checked) = (0x9E37_79B9_7F4A_7C15_u64, 0);
    let shares = [1.0_f32, 0.5, 0.25, 0.1, 1.0 / 3.0, 1e-3, f32::MIN_POSITIVE, 1e-40, 0.999_999_94, 0.0];
    for share in shares {
        for _ in 0..1000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let count = (state >> 24) >> (state % 40);
            assert_eq!(share.share_of(count), exact(share, count), "{share:e} of {count}");
            if count < 1 << 29 {
                // There f64 is exact too, so both precisions agree.
                assert_eq!(share.share_of(count), f64::from(share).share_of(count), "{share:e} of {count}");
                checked += 1;
            }
        }
        let most = share.share_of(u64::MAX) as f64;
        let error = (most - f64::from(share) * u64::MAX as f64).abs();
        assert!(error <= 1e-6 * most + 1.0, "{share:e} of the most: {most}");
    }
    assert!(checked > 1000, "{checked}");
}

#[test]
fn statistics_are_due_at_every_multiple_of_the_period() {
    const SHAPE: Shape = Shape::new(2, 1);
    let around = |middle: u64| middle - 7..middle + 7;
    let counters = (0..20).chain(around(1 << 32)).chain(around(3 << 32)).chain(around(0x9ABC_DEF0_1234_5678));
    for steps in counters {
        for period in [1, 2, 3, 7, 641, 65_537, u32::MAX] {
            let config = Config { statistics_period: period, ..Config::<f64>::default() };
            let (mut state, mut workspace) = ([0.0; SHAPE.words()], [0.0; 32]);
            let mut progress = Progress::new(0);
            progress.steps = steps;
            let layer = LayerMut::new(SHAPE, &mut state).unwrap();
            let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
            let (activations, gradients) =
                (MatrixRef::new(&[1.0, 2.0], 2, 1).unwrap(), MatrixRef::new(&[0.5], 1, 1).unwrap());
            layer.observe(activations, gradients).unwrap();
            let taken = layer.layer().input_factor().trace() > 0.0;
            assert_eq!(taken, steps % u64::from(period) == 0, "{steps} by {period}");
        }
    }
}
