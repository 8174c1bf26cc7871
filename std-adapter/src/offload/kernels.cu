// The kernels of the CUDA engine, compiled when it starts. Matrices are column-major, (i, j) at i + j * stride; a thread
// walks rows, blocks walk columns.

#define AT(p, s, i, j) (p)[(i) + (size_t)(j) * (s)]

__device__ float activation(int kind, float z) {
    switch (kind) {
        case 1: return z <= 0.0f ? 0.0f : z;
        case 2: return z <= 0.0f ? 0.01f * z : z;
        case 3: return tanhf(z);
        case 4: return 1.0f / (1.0f + expf(-z));
        case 5: return z * 0.5f * (1.0f + erff(z * 0.70710678f));
        default: return z;
    }
}

__device__ float derivative(int kind, float z, float h) {
    switch (kind) {
        case 1: return z > 0.0f ? 1.0f : 0.0f;
        case 2: return z > 0.0f ? 1.0f : 0.01f;
        case 3: return 1.0f - h * h;
        case 4: return h * (1.0f - h);
        case 5: return 0.5f * (1.0f + erff(z * 0.70710678f)) + z * 0.39894228f * expf(-0.5f * z * z);
        default: return 1.0f;
    }
}

__device__ float sign_of(unsigned seed, unsigned index) {
    unsigned x = (index ^ seed) * 0x9E3779B1u + seed;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    x ^= x >> 16;
    return (x & 1u) == 0u ? 1.0f : -1.0f;
}

extern "C" __global__ void map(int op, int kind, float scale, float keep, float add, unsigned seed, float* out,
                               int os, const float* x, int xs, const float* y, int ys, int rows, int columns) {
    for (int j = blockIdx.y; j < columns; j += gridDim.y) {
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < rows; i += gridDim.x * blockDim.x) {
            float* o = &AT(out, os, i, j);
            float value = 0.0f;
            switch (op) {
                case 0: value = scale * AT(x, xs, i, j); break;
                case 1: value = scale * AT(x, xs, i, j) * AT(x, xs, i, j); break;
                case 2: value = scale * (AT(x, xs, i, j) / (AT(y, ys, i, j) + add)); break;
                case 3: *o = (fmaxf(AT(x, xs, 0, i), 0.0f) + scale) * (fmaxf(AT(y, ys, 0, j), 0.0f) + keep); continue;
                case 4: *o = activation(kind, AT(x, xs, i, j)); continue;
                case 5: *o *= derivative(kind, AT(x, xs, i, j), AT(y, ys, i, j)); continue;
                default: *o = sign_of(seed, (unsigned)i + (unsigned)j * (unsigned)rows); continue;
            }
            *o = keep == 0.0f ? value : keep * *o + value;
        }
    }
}

// Adds up `count` doubles a thread over the block; the last `maxima` of them are largest magnitudes.
__device__ void gather(double* values, int count, int maxima, double* out) {
    __shared__ double shared[8][256];
    for (int k = 0; k < count; k++) shared[k][threadIdx.x] = values[k];
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            for (int k = 0; k < count; k++) {
                double a = shared[k][threadIdx.x], b = shared[k][threadIdx.x + half];
                shared[k][threadIdx.x] = k >= count - maxima ? fmax(a, b) : a + b;
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        for (int k = 0; k < count; k++) out[(size_t)blockIdx.x * count + k] = shared[k][0];
    }
}

__device__ void larger(double* most, float value) {
    // What is not finite counts as infinite, whatever comes after.
    *most = isfinite(value) ? fmax(*most, (double)fabsf(value)) : __longlong_as_double(0x7ff0000000000000LL);
}

extern "C" __global__ void measure(const float* x, int xs, int rows, int columns, double* out) {
    double v[3] = {0.0, 0.0, 0.0};
    bool line = rows == 1;
    int across = line ? columns : rows, down = line ? 1 : columns;
    for (int j = line ? 0 : blockIdx.x; j < down; j += gridDim.x) {
        int first = line ? blockIdx.x * blockDim.x + threadIdx.x : threadIdx.x;
        int step = line ? gridDim.x * blockDim.x : blockDim.x;
        for (int i = first; i < across; i += step) {
            float value = line ? AT(x, xs, 0, i) : AT(x, xs, i, j);
            v[0] += value;
            v[1] += (double)value * value;
            larger(&v[2], value);
        }
    }
    gather(v, 3, 1, out);
}

extern "C" __global__ void survey(const float* k, const float* s, float damping, const float* velocity,
                                  const float* weights, const float* spectrum, int ss, int rows, int columns,
                                  double* out) {
    double v[7] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    for (int j = blockIdx.x; j < columns; j += gridDim.x) {
        double a = fmaxf(AT(spectrum, ss, 0, j), 0.0f);
        for (int i = threadIdx.x; i < rows; i += blockDim.x) {
            size_t at = i + (size_t)j * rows;
            float below = s[at] + damping, d = k[at] / below, u = velocity[at];
            v[0] += (double)k[at] * d;
            v[1] += (double)k[at] * u;
            v[2] += (double)below * u * u;
            v[3] += a * d * d;
            larger(&v[4], d);
            larger(&v[5], u);
            larger(&v[6], weights[at]);
        }
    }
    gather(v, 7, 3, out);
}

__device__ bool pair_of(int size, int round, int index, int* p, int* q) {
    int circle = (size + size % 2 > 2 ? size + size % 2 : 2) - 1;
    int x = index == 0 ? circle : (round + index) % circle;
    int y = index == 0 ? round % circle : (round % circle + circle - index) % circle;
    *p = min(x, y);
    *q = max(x, y);
    return *q < size;
}

extern "C" __global__ void rotations(float* out, const float* c, int size, int round, float threshold, float lowest) {
    int index = blockIdx.x * blockDim.x + threadIdx.x, p, q;
    if (index >= (size + 1) / 2) return;
    float sine = 0.0f, ratio = 0.0f, turns = 0.0f;
    if (pair_of(size, round, index, &p, &q)) {
        float pp = AT(c, size, p, p), qq = AT(c, size, q, q), pq = AT(c, size, p, q), magnitude = fabsf(pq);
        if (magnitude > lowest && magnitude > threshold * sqrtf(fmaxf(pp, 0.0f)) * sqrtf(fmaxf(qq, 0.0f))) {
            float theta = 0.5f * ((qq - pp) / pq), far = fabsf(theta);
            float tangent = far > 8388608.0f ? 0.5f / far : 1.0f / (far + sqrtf(far * far + 1.0f));
            if (theta < 0.0f) tangent = -tangent;
            float cosine = 1.0f / sqrtf(tangent * tangent + 1.0f);
            sine = tangent * cosine;
            ratio = sine / (1.0f + cosine);
            turns = 1.0f;
        }
    }
    out[3 * index] = sine;
    out[3 * index + 1] = ratio;
    out[3 * index + 2] = turns;
}

__device__ void turn_pair(float* x, float* y, float sine, float ratio, int moments) {
    float a = *x, b = *y;
    if (moments) {
        float moved = sine * sine * (a - b);
        *x = a - moved;
        *y = b + moved;
    } else {
        *x = a - sine * (b + ratio * a);
        *y = b + sine * (a - ratio * b);
    }
}

extern "C" __global__ void turn_columns(float* m, int stride, int rows, const float* r, int size, int round,
                                        int moments) {
    for (int index = blockIdx.y; index < (size + 1) / 2; index += gridDim.y) {
        int p, q;
        if (r[3 * index + 2] == 0.0f || !pair_of(size, round, index, &p, &q)) continue;
        float sine = r[3 * index], ratio = r[3 * index + 1];
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < rows; i += gridDim.x * blockDim.x) {
            turn_pair(&AT(m, stride, i, p), &AT(m, stride, i, q), sine, ratio, moments);
        }
    }
}

extern "C" __global__ void turn_rows(float* m, int stride, int columns, const float* r, int size, int round,
                                     int moments) {
    int index = blockIdx.x * blockDim.x + threadIdx.x, p, q;
    if (index >= (size + 1) / 2 || r[3 * index + 2] == 0.0f || !pair_of(size, round, index, &p, &q)) return;
    float sine = r[3 * index], ratio = r[3 * index + 1];
    for (int j = blockIdx.y; j < columns; j += gridDim.y) {
        turn_pair(&AT(m, stride, p, j), &AT(m, stride, q, j), sine, ratio, moments);
    }
}

extern "C" __global__ void mirror(float* m, int size) {
    for (int j = blockIdx.y; j < size; j += gridDim.y) {
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < j; i += gridDim.x * blockDim.x) {
            AT(m, size, j, i) = AT(m, size, i, j);
        }
    }
}
