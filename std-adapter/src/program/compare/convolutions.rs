//! The networks with convolutions that are compared on, small enough for minutes on one core.

use ekfac::{
    Activation::{self, Identity, Relu},
    convolution::{Axis, Convolution, ConvolutionLayer, Pooling},
};

/// Sides of the maps, halved twice.
const SIDES: [usize; 3] = [28, 14, 7];
/// Channels at the second and the third.
const CHANNELS: [usize; 2] = [8, 16];
const CLASSES: usize = 10;

/// 5 x 5 filters, every second place: 28 x 28 grey values to 14 x 14.
fn stem() -> ConvolutionLayer {
    let axis = Axis::new(SIDES[0], 5).stride(2).padding(2);
    ConvolutionLayer::new(Convolution::new_2d(1, [axis; 2], CHANNELS[0]), Relu)
}

/// 3 x 3 filters at every place.
fn filters(side: usize, channels: usize, outputs: usize, activation: Activation) -> ConvolutionLayer {
    let axis = Axis::new(side, 3).padding(1);
    ConvolutionLayer::new(Convolution::new_2d(channels, [axis; 2], outputs), activation)
}

/// The windows of this size, one beside the other.
fn pool(pooling: Pooling, side: usize, channels: usize, window: usize) -> ConvolutionLayer {
    ConvolutionLayer::pool(
        pooling,
        Convolution::depthwise(channels, [Axis::new(side, window).stride(window); 2]),
    )
}

/// In the manner of VGG: pairs of convolutions, each followed by the largest of 2 x 2, and a dense layer.
pub(super) fn vgg() -> Vec<ConvolutionLayer> {
    let ([_, wide, narrow], [few, many]) = (SIDES, CHANNELS);
    let last = pool(Pooling::Max, narrow, many, 2);
    let dense = ConvolutionLayer::dense(last.convolution().output_words(), CLASSES, Identity);
    vec![
        stem(),
        filters(wide, few, few, Relu),
        pool(Pooling::Max, wide, few, 2),
        filters(narrow, few, many, Relu),
        filters(narrow, many, many, Relu),
        last,
        dense,
    ]
}
