/* The product block: what an atom does with the sum of its messages, forward and backward. Part of fibre_bundle.c. */

/* ---- the product block, on a group of n atoms: arrays [COEFFICIENTS][n][C] and [n][C] ---- */

typedef struct {
    real *a, *inverse, *factors, *q, *p, *invariants, *gates, *hidden, *mixed;
    real *pull_a, *pull_q, *pull_p, *pull_factors, *pull_gates, *pull_invariants, *pull_scalars, *pull_features, *grid, *rows;
} Scratch;

enum { FULL = COEFFICIENTS * GROUP * C, FLAT = GROUP * C };

static const int SIZES[] = {FULL, FLAT, 3 * FULL, FULL, FULL, 4 * FLAT, 4 * FLAT, FLAT, FULL,
                            FULL, FULL, FULL, 3 * FULL, 4 * FLAT, 4 * FLAT, FLAT, FULL, O * C, FULL};

static int64_t scratch_size(void) {
    int64_t total = 0;
    for (size_t n = 0; n < sizeof SIZES / sizeof *SIZES; n++) total += SIZES[n];
    return total;
}

static Scratch scratch_of(const System *system, int thread) {
    Scratch s;
    real *next = system->scratch + thread * scratch_size(), **field = (real **)&s;
    for (size_t n = 0; n < sizeof SIZES / sizeof *SIZES; n++) {
        field[n] = next;
        next += SIZES[n];
    }
    return s;
}

/* a = messages / sqrt(1 + sum of squares), see limit_norm */
static void limit(int n, real *messages, real *inverse) {
    for (int v = 0; v < n * CV; v++) {
        vec sum = 1 - (vec){0}, root;
        for (int m = 0; m < COEFFICIENTS; m++) sum += at(messages, m * n * CV)[v] * at(messages, m * n * CV)[v];
        for (int lane = 0; lane < LANES; lane++) root[lane] = 1 / (sizeof(real) == 4 ? sqrtf(sum[lane]) : sqrt(sum[lane]));
        at(inverse, 0)[v] = root;
        for (int m = 0; m < COEFFICIENTS; m++) at(messages, m * n * CV)[v] *= root;
    }
}

static void limit_backward(int n, const real *a, const real *inverse, real *pull) {
    for (int v = 0; v < n * CV; v++) {
        vec dot = {0};
        for (int m = 0; m < COEFFICIENTS; m++) dot += cat(a, m * n * CV)[v] * at(pull, m * n * CV)[v];
        for (int m = 0; m < COEFFICIENTS; m++)
            at(pull, m * n * CV)[v] = cat(inverse, 0)[v] * (at(pull, m * n * CV)[v] - cat(a, m * n * CV)[v] * dot);
    }
}

/* Vectors of one atom and one set of channels: x[COEFFICIENTS] from rows that are `stride` apart. */
INLINE void load(vec *x, const real *from, ptrdiff_t stride, int v) {
#pragma GCC unroll 16
    for (int m = 0; m < COEFFICIENTS; m++) x[m] = *cat(from + m * stride, v);
}

/* out = P(x1 x2) */
INLINE void fibre_product(const Model *model, const vec *x1, const vec *x2, vec *out) {
    for (int m = 0; m < COEFFICIENTS; m++) out[m] = (vec){0};
    for (int o = 0; o < O; o += IMAGES) {
        const real *y = synthesis_of(model, o);
        vec f1[IMAGES], f2[IMAGES];
        values_at(y, x1, f1);
        values_at(y, x2, f2);
        for (int k = 0; k < IMAGES; k++) f1[k] *= f2[k];
        spread(y, f1, out);
    }
    for (int m = 0; m < COEFFICIENTS; m++) out[m] *= (real)1 / O;
}

/* Adds the gradients with respect to x1 and x2. */
INLINE void fibre_product_backward(const Model *model, const vec *x1, const vec *x2, const vec *pull, vec *pull1, vec *pull2) {
    for (int o = 0; o < O; o += IMAGES) {
        const real *y = synthesis_of(model, o);
        vec p[IMAGES], f1[IMAGES], f2[IMAGES];
        values_at(y, pull, p);
        values_at(y, x1, f1);
        values_at(y, x2, f2);
        for (int k = 0; k < IMAGES; k++) {
            p[k] *= (real)1 / O;
            f1[k] *= p[k];
            f2[k] *= p[k];
        }
        spread(y, f2, pull1);
        spread(y, f1, pull2);
    }
}

INLINE void store(real *to, ptrdiff_t stride, int v, const vec *x) {
#pragma GCC unroll 16
    for (int m = 0; m < COEFFICIENTS; m++) *at(to + m * stride, v) = x[m];
}

/* From messages in s->a: the products, gates and energies; `scalars` become those of the next block. */
static void product_forward(const Model *model, int b, int n, real *scalars, double *energies, Scratch *s) {
    const Block *block = &model->blocks[b];
    int last = b == model->n_blocks - 1, outputs = last ? C : 4 * C;
    limit(n, s->a, s->inverse);
    multiply_fibre(n, C, 3 * C, s->a, block->factors, s->factors, 0);
    for (int i = 0; i < n; i++)
        for (int v = 0; v < CV; v++) {
            vec v1[COEFFICIENTS], v2[COEFFICIENTS], v3[COEFFICIENTS], q[COEFFICIENTS], p[COEFFICIENTS];
            const real *factors = s->factors + i * 3 * C;
            load(v1, factors, n * 3 * C, v);
            load(v2, factors + C, n * 3 * C, v);
            fibre_product(model, v1, v2, q);
            store(s->q + i * C, n * C, v, q);
            load(v3, factors + 2 * C, n * 3 * C, v);
            if (last) {
                p[0] = q[0] * v3[0];
                for (int m = 1; m < COEFFICIENTS; m++) p[0] += q[m] * v3[m];
            } else {
                fibre_product(model, q, v3, p);
                store(s->p + i * C, n * C, v, p);
            }
            real *invariants = s->invariants + i * 4 * C;
            *at(invariants, v) = *cat(scalars + i * C, v);
            *at(invariants + C, v) = *cat(s->a + i * C, v);
            *at(invariants + 2 * C, v) = q[0];
            *at(invariants + 3 * C, v) = p[0];
        }
    for (int i = 0; i < n; i++) memcpy(s->gates + i * outputs, block->gate_bias, outputs * sizeof(real));
    multiply(n, 4 * C, outputs, s->invariants, 4 * C, block->gates, s->gates, outputs, 1);
    for (int i = 0; i < n; i++)
        for (int v = 0; v < CV; v++) *at(scalars + i * C, v) += *cat(s->gates + i * outputs, v);
    for (int i = 0; i < n; i++) memcpy(s->hidden + i * C, block->readout_bias, C * sizeof(real));
    multiply(n, C, C, scalars, C, block->readout, s->hidden, C, 1);
    for (int i = 0; i < n; i++) {
        double energy = block->energy_bias;
        for (int c = 0; c < C; c++) {
            real h = s->hidden[i * C + c];
            energy += (double)(block->energy_weight[c] * h / (1 + (sizeof(real) == 4 ? expf(-h) : exp(-h))));
        }
        energies[i] += energy;
    }
}

/* out += U(g1 a + g2 q + g3 p) */
static void update_features(const Model *model, int b, int n, real *out, Scratch *s) {
    for (int m = 0; m < COEFFICIENTS; m++)
        for (int i = 0; i < n; i++)
            for (int v = 0; v < CV; v++) {
                const real *gates = s->gates + i * 4 * C;
                int place = (m * n + i) * C;
                *at(s->mixed + place, v) = *cat(gates + C, v) * *cat(s->a + place, v) + *cat(gates + 2 * C, v) * *cat(s->q + place, v) +
                                           *cat(gates + 3 * C, v) * *cat(s->p + place, v);
            }
    multiply_fibre(n, C, C, s->mixed, model->blocks[b].update, out, 1);
}

/* After product_forward: from the gradients of what the block gave (s->pull_features, s->pull_scalars; none of the features for the
   last block) to those of what it took (messages in s->pull_a; scalars in s->pull_scalars). */
static void product_backward(const Model *model, int b, int n, Scratch *s) {
    const Block *block = &model->blocks[b];
    int last = b == model->n_blocks - 1, outputs = last ? C : 4 * C;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < C; c++) {
            real h = s->hidden[i * C + c], gate = 1 / (1 + (sizeof(real) == 4 ? expf(-h) : exp(-h)));
            s->hidden[i * C + c] = block->energy_weight[c] * gate * (1 + h * (1 - gate));
        }
    multiply(n, C, C, s->hidden, C, block->readout_t, s->pull_scalars, C, 1);
    for (int i = 0; i < n; i++) memcpy(s->pull_gates + i * outputs, s->pull_scalars + i * C, C * sizeof(real));
    if (!last) {
        multiply_fibre(n, C, C, s->pull_features, block->update_t, s->mixed, 0);
        for (int i = 0; i < n; i++)
            for (int v = 0; v < CV; v++) {
                const real *gates = s->gates + i * 4 * C;
                vec g1 = *cat(gates + C, v), g2 = *cat(gates + 2 * C, v), g3 = *cat(gates + 3 * C, v);
                vec d1 = {0}, d2 = {0}, d3 = {0};
                for (int m = 0; m < COEFFICIENTS; m++) {
                    int place = (m * n + i) * C;
                    vec u = *cat(s->mixed + place, v);
                    d1 += u * *cat(s->a + place, v);
                    d2 += u * *cat(s->q + place, v);
                    d3 += u * *cat(s->p + place, v);
                    *at(s->pull_a + place, v) = g1 * u;
                    *at(s->pull_q + place, v) = g2 * u;
                    *at(s->pull_p + place, v) = g3 * u;
                }
                real *pull = s->pull_gates + i * 4 * C;
                *at(pull + C, v) = d1, *at(pull + 2 * C, v) = d2, *at(pull + 3 * C, v) = d3;
            }
    } else {
        memset(s->pull_a, 0, (size_t)COEFFICIENTS * n * C * sizeof(real));
        memset(s->pull_q, 0, (size_t)COEFFICIENTS * n * C * sizeof(real));
    }
    multiply(n, outputs, 4 * C, s->pull_gates, outputs, block->gates_t, s->pull_invariants, 4 * C, 0);
    for (int i = 0; i < n; i++)
        for (int v = 0; v < CV; v++) {
            const real *invariants = s->pull_invariants + i * 4 * C, *factors = s->factors + i * 3 * C;
            real *out = s->pull_factors + i * 3 * C;
            vec v1[COEFFICIENTS], v2[COEFFICIENTS], q[COEFFICIENTS], pull_q[COEFFICIENTS];
            vec d1[COEFFICIENTS] = {{0}}, d2[COEFFICIENTS] = {{0}};
            *at(s->pull_scalars + i * C, v) += *cat(invariants, v);
            *at(s->pull_a + i * C, v) += *cat(invariants + C, v);
            load(q, s->q + i * C, n * C, v);
            load(pull_q, s->pull_q + i * C, n * C, v);
            load(v1, factors + 2 * C, n * 3 * C, v);
            pull_q[0] += *cat(invariants + 2 * C, v);
            if (last) {
                vec p = *cat(invariants + 3 * C, v);
                for (int m = 0; m < COEFFICIENTS; m++) {
                    pull_q[m] += p * v1[m];
                    d1[m] = p * q[m];
                }
            } else {
                vec pull_p[COEFFICIENTS];
                load(pull_p, s->pull_p + i * C, n * C, v);
                pull_p[0] += *cat(invariants + 3 * C, v);
                fibre_product_backward(model, q, v1, pull_p, pull_q, d1);
            }
            store(out + 2 * C, n * 3 * C, v, d1);
            load(v1, factors, n * 3 * C, v);
            load(v2, factors + C, n * 3 * C, v);
            for (int m = 0; m < COEFFICIENTS; m++) d1[m] = (vec){0};
            fibre_product_backward(model, v1, v2, pull_q, d1, d2);
            store(out, n * 3 * C, v, d1);
            store(out + C, n * 3 * C, v, d2);
        }
    multiply_fibre(n, 3 * C, C, s->pull_factors, block->factors_t, s->pull_a, 1);
    limit_backward(n, s->a, s->inverse, s->pull_a);
}
