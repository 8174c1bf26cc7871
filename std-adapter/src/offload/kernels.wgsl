// The kernels of the wgpu engine. Matrices are column-major: (i, j) at offset + i + j * stride.

struct Params {
    op: u32, kind: u32, rows: u32, columns: u32,
    inner: u32, flags: u32, size: u32, round: u32,
    out_offset: u32, out_stride: u32, x_offset: u32, x_stride: u32,
    y_offset: u32, y_stride: u32, seed: u32, extra: u32,
    scale: f32, keep: f32, add: f32, count: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> y: array<f32>;
@group(0) @binding(4) var<storage, read> z: array<f32>;
@group(0) @binding(5) var<storage, read> w: array<f32>;
@group(0) @binding(6) var<storage, read> u: array<f32>;
@group(0) @binding(7) var<storage, read_write> angles: array<f32>;

const TILE: u32 = 16u;
var<workgroup> left_tile: array<array<f32, 16>, 16>;
var<workgroup> right_tile: array<array<f32, 16>, 16>;

fn left_at(i: u32, k: u32) -> f32 {
    if i >= p.rows || k >= p.inner { return 0.0; }
    if (p.flags & 1u) == 1u { return x[p.x_offset + k + i * p.x_stride]; }
    return x[p.x_offset + i + k * p.x_stride];
}

fn right_at(k: u32, j: u32) -> f32 {
    if j >= p.columns || k >= p.inner { return 0.0; }
    if (p.flags & 2u) == 2u { return y[p.y_offset + j + k * p.y_stride]; }
    return y[p.y_offset + k + j * p.y_stride];
}

@compute @workgroup_size(16, 16)
fn product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let i = group.x * TILE + local.x;
    let j = group.y * TILE + local.y;
    var sum = 0.0;
    for (var start = 0u; start < p.inner; start += TILE) {
        left_tile[local.y][local.x] = left_at(i, start + local.y);
        right_tile[local.y][local.x] = right_at(start + local.x, j);
        workgroupBarrier();
        for (var k = 0u; k < TILE; k++) {
            sum += left_tile[k][local.x] * right_tile[local.y][k];
        }
        workgroupBarrier();
    }
    if i < p.rows && j < p.columns {
        let at = p.out_offset + i + j * p.out_stride;
        var value = p.scale * sum;
        if p.keep != 0.0 { value += p.keep * out[at]; }
        out[at] = value;
    }
}

// Abramowitz and Stegun 7.1.26, to 1.5e-7.
fn error_function(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(v) * (1.0 - series * exp(-v * v));
}

fn activation(v: f32) -> f32 {
    switch p.kind {
        case 1u: { return select(v, 0.0, v <= 0.0); }
        case 2u: { return select(v, 0.01 * v, v <= 0.0); }
        case 3u: { return tanh(clamp(v, -15.0, 15.0)); }
        case 4u: { return 1.0 / (1.0 + exp(-v)); }
        case 5u: { return v * 0.5 * (1.0 + error_function(v * 0.70710678)); }
        default: { return v; }
    }
}

fn derivative(v: f32, h: f32) -> f32 {
    switch p.kind {
        case 1u: { return select(0.0, 1.0, v > 0.0); }
        case 2u: { return select(0.01, 1.0, v > 0.0); }
        case 3u: { return 1.0 - h * h; }
        case 4u: { return h * (1.0 - h); }
        case 5u: { return 0.5 * (1.0 + error_function(v * 0.70710678)) + v * 0.39894228 * exp(-0.5 * v * v); }
        default: { return 1.0; }
    }
}

fn random_sign(index: u32) -> f32 {
    var v = (index ^ p.seed) * 0x9E3779B1u + p.seed;
    v = (v ^ (v >> 16u)) * 0x7FEB352Du;
    v = (v ^ (v >> 15u)) * 0x846CA68Bu;
    v ^= v >> 16u;
    return select(-1.0, 1.0, (v & 1u) == 0u);
}

fn finite(v: f32) -> bool {
    // Compilers may take every number for finite; its bits do not lie.
    return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(64)
fn map(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x;
    if i >= p.rows { return; }
    for (var j = id.y; j < p.columns; j += groups.y) {
        let at = p.out_offset + i + j * p.out_stride;
        var a = 0.0;
        var b = 0.0;
        if p.op == 3u {
            a = x[p.x_offset + i * p.x_stride];
            b = y[p.y_offset + j * p.y_stride];
        } else if p.op != 6u {
            a = x[p.x_offset + i + j * p.x_stride];
            b = y[p.y_offset + i + j * p.y_stride];
        }
        var value = 0.0;
        switch p.op {
            case 0u: { value = p.scale * a; }
            case 1u: { value = p.scale * a * a; }
            case 2u: { value = p.scale * (a / (b + p.add)); }
            case 3u: { out[at] = (max(a, 0.0) + p.scale) * (max(b, 0.0) + p.keep); }
            case 4u: {
                // What is not finite stays so, for the gate to see.
                if finite(a) { out[at] = activation(a); } else { out[at] = a; }
            }
            case 5u: { out[at] = out[at] * derivative(a, b); }
            default: { out[at] = random_sign(i + j * p.rows); }
        }
        if p.op < 3u {
            if p.keep != 0.0 { value += p.keep * out[at]; }
            out[at] = value;
        }
    }
}

const GROUP: u32 = 64u;
var<workgroup> lanes: array<array<f32, 64>, 7>;

fn gather(local: u32, group: u32, count: u32, maxima: u32) {
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        if local < half {
            for (var k = 0u; k < count; k++) {
                let a = lanes[k][local];
                let b = lanes[k][local + half];
                if k + maxima >= count { lanes[k][local] = max(a, b); } else { lanes[k][local] = a + b; }
            }
        }
        workgroupBarrier();
    }
    if local == 0u {
        for (var k = 0u; k < count; k++) { out[p.out_offset + group * count + k] = lanes[k][0]; }
    }
}

// The largest number stands for what is not finite.
fn magnitude(v: f32) -> f32 {
    return select(3.4028234e38, abs(v), finite(v));
}

@compute @workgroup_size(64)
fn measure(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
           @builtin(num_workgroups) groups: vec3<u32>) {
    let all = p.rows * p.columns;
    var sum = 0.0;
    var squares = 0.0;
    var largest = 0.0;
    for (var index = group.x * GROUP + local.x; index < all; index += groups.x * GROUP) {
        let v = x[p.x_offset + index % p.rows + (index / p.rows) * p.x_stride];
        sum += v;
        squares += v * v;
        largest = max(largest, magnitude(v));
    }
    lanes[0][local.x] = sum;
    lanes[1][local.x] = squares;
    lanes[2][local.x] = largest;
    gather(local.x, group.x, 3u, 1u);
}

@compute @workgroup_size(64)
fn survey(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>,
          @builtin(num_workgroups) groups: vec3<u32>) {
    let all = p.rows * p.columns;
    var v = array<f32, 7>(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (var at = group.x * GROUP + local.x; at < all; at += groups.x * GROUP) {
        let a = max(u[p.x_offset + (at / p.rows) * p.x_stride], 0.0);
        let k = x[at];
        let below = y[at] + p.add;
        let d = k / below;
        let velocity = z[at];
        v[0] += k * d;
        v[1] += k * velocity;
        v[2] += below * velocity * velocity;
        v[3] += a * d * d;
        v[4] = max(v[4], magnitude(d));
        v[5] = max(v[5], magnitude(velocity));
        v[6] = max(v[6], magnitude(w[at]));
    }
    for (var k = 0u; k < 7u; k++) { lanes[k][local.x] = v[k]; }
    gather(local.x, group.x, 7u, 3u);
}

fn pair_of(round: u32, index: u32) -> vec2<u32> {
    let circle = max(p.size + p.size % 2u, 2u) - 1u;
    var a = circle;
    var b = round;
    if index > 0u {
        // Both sums lie below 2 * circle.
        a = round + index;
        b = round + circle - index;
        if a >= circle { a -= circle; }
        if b >= circle { b -= circle; }
    }
    return vec2<u32>(min(a, b), max(a, b));
}

// Sine, sine / (1 + cosine), and whether it turns.
fn rotation_of(pp: f32, qq: f32, pq: f32) -> vec3<f32> {
    if !(abs(pq) > p.keep && abs(pq) > p.scale * sqrt(max(pp, 0.0)) * sqrt(max(qq, 0.0))) {
        return vec3<f32>(0.0, 0.0, 0.0);
    }
    let theta = 0.5 * ((qq - pp) / pq);
    let far = abs(theta);
    var tangent = 0.0;
    if far > 8388608.0 { tangent = 0.5 / far; } else { tangent = 1.0 / (far + sqrt(far * far + 1.0)); }
    if theta < 0.0 { tangent = -tangent; }
    let cosine = 1.0 / sqrt(tangent * tangent + 1.0);
    let sine = tangent * cosine;
    return vec3<f32>(sine, sine / (1.0 + cosine), 1.0);
}

@compute @workgroup_size(64)
fn rotations(@builtin(global_invocation_id) id: vec3<u32>) {
    let index = id.x;
    if index >= (p.size + 1u) / 2u { return; }
    let pair = pair_of(p.round, index);
    var found = vec3<f32>(0.0, 0.0, 0.0);
    if pair.y < p.size {
        let pq = x[pair.x + pair.y * p.size];
        found = rotation_of(x[pair.x + pair.x * p.size], x[pair.y + pair.y * p.size], pq);
    }
    let at = p.out_offset + 3u * index;
    out[at] = found.x;
    out[at + 1u] = found.y;
    out[at + 2u] = found.z;
}

fn turn_two(first: u32, second: u32, sine: f32, ratio: f32) {
    let a = out[first];
    let b = out[second];
    if (p.flags & 2u) == 2u {
        let moved = sine * sine * (a - b);
        out[first] = a - moved;
        out[second] = b + moved;
    } else {
        out[first] = a - sine * (b + ratio * a);
        out[second] = b + sine * (a - ratio * b);
    }
}

fn turn_lines(pair: vec2<u32>, other: u32, columns: bool, sine: f32, ratio: f32) {
    if columns {
        let at = p.out_offset + other;
        turn_two(at + pair.x * p.out_stride, at + pair.y * p.out_stride, sine, ratio);
    } else {
        let at = p.out_offset + other * p.out_stride;
        turn_two(at + pair.x, at + pair.y, sine, ratio);
    }
}

// One round. A thread an element of the shorter way: x over the pairs, y over the other lines.
@compute @workgroup_size(64)
fn turn(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = id.x;
    if index >= (p.size + 1u) / 2u { return; }
    let pair = pair_of(p.round, index);
    let at = p.extra + 3u * index;
    if pair.y >= p.size || x[at + 2u] == 0.0 { return; }
    for (var other = id.y; other < p.inner; other += groups.y) {
        turn_lines(pair, other, (p.flags & 1u) == 1u, x[at], x[at + 1u]);
    }
}

// All rounds, a thread to each of the other lines, which do not meet.
@compute @workgroup_size(64)
fn turn_rounds(@builtin(global_invocation_id) id: vec3<u32>) {
    let other = id.x;
    if other >= p.inner { return; }
    let columns = (p.flags & 1u) == 1u;
    let pairs = (p.size + 1u) / 2u;
    let circle = max(p.size + p.size % 2u, 2u) - 1u;
    var at = p.extra;
    var round = p.round;
    for (var step = 0u; step < p.count; step++) {
        for (var index = 0u; index < pairs; index++) {
            if x[at + 2u] != 0.0 { turn_lines(pair_of(round, index), other, columns, x[at], x[at + 1u]); }
            at += 3u;
        }
        round = select(round + 1u, 0u, round + 1u >= circle);
    }
}

// All rounds of a small symmetric matrix, by one work group.
@compute @workgroup_size(16, 16)
fn rotate(@builtin(local_invocation_id) local: vec3<u32>) {
    let pairs = (p.size + 1u) / 2u;
    let circle = max(p.size + p.size % 2u, 2u) - 1u;
    var round = p.round;
    for (var step = 0u; step < p.count; step++) {
        let start = p.extra + 3u * pairs * step;
        for (var index = local.x + 16u * local.y; index < pairs; index += 256u) {
            let pair = pair_of(round, index);
            var found = vec3<f32>(0.0, 0.0, 0.0);
            if pair.y < p.size {
                let pq = out[pair.x + pair.y * p.size];
                found = rotation_of(out[pair.x + pair.x * p.size], out[pair.y + pair.y * p.size], pq);
            }
            angles[start + 3u * index] = found.x;
            angles[start + 3u * index + 1u] = found.y;
            angles[start + 3u * index + 2u] = found.z;
        }
        storageBarrier();
        for (var side = 0u; side < 2u; side++) {
            for (var index = local.y; index < pairs; index += 16u) {
                let at = start + 3u * index;
                if angles[at + 2u] == 0.0 { continue; }
                let pair = pair_of(round, index);
                for (var other = local.x; other < p.size; other += 16u) {
                    turn_lines(pair, other, side == 0u, angles[at], angles[at + 1u]);
                }
            }
            storageBarrier();
        }
        round = select(round + 1u, 0u, round + 1u >= circle);
    }
}
