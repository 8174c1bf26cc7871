//! What a kernel of the Vulkan engine is told.

use super::SLOT;

/// What a kernel is told, in the layout of its uniform block.
#[derive(Clone, Copy, Default)]
pub(super) struct Params {
    pub(super) op: u32,
    pub(super) kind: u32,
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) inner: u32,
    pub(super) flags: u32,
    pub(super) size: u32,
    pub(super) round: u32,
    pub(super) out: [u32; 2],
    pub(super) x: [u32; 2],
    pub(super) y: [u32; 2],
    pub(super) seed: u32,
    pub(super) extra: u32,
    pub(super) scale: f32,
    pub(super) keep: f32,
    pub(super) add: f32,
    pub(super) count: u32,
}

impl Params {
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let start = into.len();
        let numbers =
            [self.op, self.kind, self.rows, self.columns, self.inner, self.flags, self.size, self.round];
        let places = [self.out, self.x, self.y];
        let factors = [self.scale, self.keep, self.add].map(f32::to_bits);
        let rest = [self.seed, self.extra, factors[0], factors[1], factors[2], self.count];
        for number in numbers.iter().chain(places.as_flattened()).chain(&rest) {
            into.extend_from_slice(&number.to_ne_bytes());
        }
        into.resize(start + SLOT, 0);
    }
}
