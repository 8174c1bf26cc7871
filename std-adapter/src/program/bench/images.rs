//! Made images: pen strokes on a dark square, about a fifth of it lit, as in MNIST.

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

/// Points of a stroke.
const POINTS: usize = 64;
/// Pixels from one point to the next.
const STRIDE: f32 = 0.7;
/// How far a point may turn the pen.
const TURN: f32 = 0.6;

/// So many square images of `pixels` values from 0 to 1, one after another; the same for the same seed, on every machine.
pub(super) fn strokes(count: usize, pixels: usize, seed: u64) -> Vec<f32> {
    let side = pixels.isqrt();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut images = vec![0.0; count * pixels];
    for image in images.chunks_exact_mut(pixels.max(1)) {
        stroke(image, side, || (random.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0);
    }
    images
}

/// A walk that turns a little at every point and is drawn back towards the middle.
fn stroke(image: &mut [f32], side: usize, mut draw: impl FnMut() -> f32) {
    let middle = 0.5 * side as f32;
    let mut place = [middle * (1.0 + 0.4 * draw()), middle * (1.0 + 0.4 * draw())];
    let mut heading = [draw(), draw()];
    for _ in 0..POINTS {
        for (heading, place) in heading.iter_mut().zip(place) {
            *heading += TURN * draw() + 0.1 * (middle - place) / middle;
        }
        let length = (heading[0] * heading[0] + heading[1] * heading[1]).sqrt().max(1e-3);
        for (place, heading) in place.iter_mut().zip(&mut heading) {
            *heading /= length;
            *place = (*place + STRIDE * *heading).clamp(1.0, side as f32 - 2.0);
        }
        touch(image, side, place);
    }
}

/// Lights the pixels around a point, the nearer the brighter.
fn touch(image: &mut [f32], side: usize, [x, y]: [f32; 2]) {
    for row in (y as usize).saturating_sub(1)..=y as usize + 2 {
        for column in (x as usize).saturating_sub(1)..=x as usize + 2 {
            let (dx, dy) = (column as f32 - x, row as f32 - y);
            let light = (1.2 - 0.5 * (dx * dx + dy * dy)).clamp(0.0, 1.0);
            if let Some(pixel) = image.get_mut(row * side + column) {
                *pixel = pixel.max(light);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::strokes;

    // Mutant: images that are all alike, or dark, or beyond the range that the networks expect.
    #[test]
    fn images_differ_and_are_lit_as_much_as_digits() {
        let images = strokes(50, 784, 1);
        assert_eq!((images.len(), images == strokes(50, 784, 1)), (50 * 784, true));
        assert!(images.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        let lit = images.iter().filter(|pixel| **pixel > 0.0).count() as f64 / images.len() as f64;
        assert!((0.1..0.3).contains(&lit), "{lit}");
        assert!(images[..784] != images[784..2 * 784] && images != strokes(50, 784, 2));
    }
}
