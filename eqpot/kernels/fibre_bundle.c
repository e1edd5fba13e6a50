/* Energies of the exactly equivariant fibre bundle network and their gradient with respect to the edge vectors.

   Compiled for one shape of the network: REAL (float or double), N_CHANNELS, N_ORIENTATIONS, FEATURE_DEGREE, KERNEL_DEGREE.
   The formulas are those of eqpot/network (convolution.py, blocks.py); names follow them. What differs is the order: atoms are
   taken in groups whose intermediate results fit the cache, nothing of the size edges x orientations x channels is stored, and of
   an atom only what its neighbours read is kept. The radial functions come from tables (radial_table.py). */

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef REAL real;
enum {
    LANES = 64 / sizeof(real),
    C = N_CHANNELS,
    CV = N_CHANNELS / LANES,
    O = N_ORIENTATIONS,
    LIFT_DEGREES = FEATURE_DEGREE + 1,
    GRID_DEGREES = KERNEL_DEGREE + 1,
    COEFFICIENTS = LIFT_DEGREES * LIFT_DEGREES,
    GROUP = 16, /* atoms that are taken through a block together */
    SUPPORT = 6, /* coefficients of a quintic spline that matter at a point */
    MAX_BLOCKS = 8
};
typedef real vec __attribute__((vector_size(64), may_alias));
typedef real half __attribute__((vector_size(32), may_alias));
typedef real quarter __attribute__((vector_size(16), may_alias));
#define INLINE static inline __attribute__((always_inline))

/* ---- what Python passes; the field order is that of the ctypes structures in fibre_bundle.py ---- */

typedef struct { /* matrices are [n_in][n_out], one per angular degree where the map is a FibreLinear; *_t is the transpose */
    const real *message_mixing, *message_mixing_t, *self_mixing, *self_mixing_t;
    const real *factors, *factors_t, *gates, *gates_t, *gate_bias, *update, *update_t;
    const real *readout, *readout_t, *readout_bias, *energy_weight;
    double energy_bias;
} Block;

typedef struct {
    int64_t n_blocks, n_species;
    double cutoff, inverse_spacing;
    const real *orientations; /* [O][3] */
    const real *synthesis; /* [O][COEFFICIENTS] */
    const real *harmonic_norms; /* [COEFFICIENTS] */
    const real *embedding; /* [n_species][C] */
    const real *const *tables; /* [n_blocks][n_species target][n_species source] -> [n_knots][degrees][C] */
    Block blocks[MAX_BLOCKS];
} Model;

typedef struct {
    int64_t n_atoms, n_edges, n_threads, want_gradient;
    const int32_t *species; /* [n_atoms] */
    const real *vectors; /* [n_edges][3] */
    const int32_t *source, *target; /* [n_edges] */
    const int32_t *in_row, *out_row, *out_edge; /* edges of a target: in_row[i] ... in_row[i + 1]; of a source: through out_edge */
    double *energies; /* [n_atoms] */
    real *gradient, *lift_gradient; /* [n_edges][3]: of the thread that has the edge's source, and of the one that has its target */
    real *messages; /* [n_blocks - 1][n_atoms][COEFFICIENTS][C], as they enter the product block */
    real *scalars; /* [n_blocks][n_atoms][C]: entering block b */
    real *joined; /* [n_blocks - 1][n_atoms][COEFFICIENTS][C]: features and scalars, then the gradient that block b + 1 gives them */
    real *features; /* [n_atoms][COEFFICIENTS][C]: without the scalars, needed with three blocks and more */
    real *values; /* [n_blocks - 1][n_atoms][O][C]: joined on the grid */
    real *pull; /* [n_atoms][O][C]: gradient with respect to the sums of messages on the grid */
    real *scalar_gradient; /* [n_atoms][C] */
    real *feature_gradient; /* [n_atoms][COEFFICIENTS][C] */
    real *scratch; /* [n_threads][scratch_size()] */
} System;

/* ---- small helpers ---- */

INLINE vec *at(real *p, int v) { return (vec *)p + v; }
INLINE const vec *cat(const real *p, int v) { return (const vec *)p + v; }

INLINE real lane_sum(vec x) {
    half h = ((half *)&x)[0] + ((half *)&x)[1];
    quarter q = ((quarter *)&h)[0] + ((quarter *)&h)[1];
    real sum = 0;
    for (size_t n = 0; n < 16 / sizeof(real); n++) sum += q[n];
    return sum;
}

/* rows x n_in times n_in x n_out into out, or added to it; n_out is a multiple of TILE lanes. A tile of results stays in registers. */
enum { TILE_ROWS = 6, TILE_COLUMNS = CV % 4 == 0 ? 4 : CV % 2 == 0 ? 2 : 1 };

INLINE void multiply_tile(int rows, int n_in, const real *a, int lda, const real *b, int ldb, real *out, int ldo, int add) {
    vec sum[TILE_ROWS][TILE_COLUMNS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_COLUMNS; v++) sum[r][v] = add ? *at(out + (ptrdiff_t)r * ldo, v) : (vec){0};
    for (int k = 0; k < n_in; k++) {
        vec row[TILE_COLUMNS];
#pragma GCC unroll 4
        for (int v = 0; v < TILE_COLUMNS; v++) row[v] = *cat(b + (ptrdiff_t)k * ldb, v);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < TILE_COLUMNS; v++) sum[r][v] += a[(ptrdiff_t)r * lda + k] * row[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < TILE_COLUMNS; v++) *at(out + (ptrdiff_t)r * ldo, v) = sum[r][v];
}

static void multiply(int rows, int n_in, int n_out, const real *a, int lda, const real *b, real *out, int ldo, int add) {
    for (int column = 0; column < n_out; column += TILE_COLUMNS * LANES) {
        int r = 0;
        for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
            multiply_tile(TILE_ROWS, n_in, a + (ptrdiff_t)r * lda, lda, b + column, n_out, out + (ptrdiff_t)r * ldo + column, ldo, add);
        if (r + 3 <= rows) {
            multiply_tile(3, n_in, a + (ptrdiff_t)r * lda, lda, b + column, n_out, out + (ptrdiff_t)r * ldo + column, ldo, add);
            r += 3;
        }
        for (; r < rows; r++)
            multiply_tile(1, n_in, a + (ptrdiff_t)r * lda, lda, b + column, n_out, out + (ptrdiff_t)r * ldo + column, ldo, add);
    }
}

/* FibreLinear on [COEFFICIENTS][n][n_in]: the coefficients of one degree are neighbouring rows. */
static void multiply_fibre(int n, int n_in, int n_out, const real *a, const real *weight, real *out, int add) {
    for (int l = 0; l < LIFT_DEGREES; l++)
        multiply((2 * l + 1) * n, n_in, n_out, a + (ptrdiff_t)l * l * n * n_in, n_in, weight + (ptrdiff_t)l * n_in * n_out,
                 out + (ptrdiff_t)l * l * n * n_out, n_out, add);
}

/* ---- geometry of an edge ---- */

typedef struct {
    real u[3], inverse_length;
    real spline[SUPPORT], slope[SUPPORT]; /* weights of the table's rows for R and dR/dr; the window is in them */
    int knot;
} Edge;

/* Returns 0 where the window is zero. */
INLINE int edge_geometry(const Model *model, const real *r, Edge *edge) {
    real length = sqrt((double)r[0] * r[0] + (double)r[1] * r[1] + (double)r[2] * r[2]);
    real cutoff = model->cutoff, spacing = model->inverse_spacing;
    if (length >= cutoff) return 0;
    edge->inverse_length = 1 / length;
    for (int d = 0; d < 3; d++) edge->u[d] = r[d] * edge->inverse_length;
    real x = length / cutoff, x5 = x * x * x * x * x;
    real window = 1 + x5 * x * (-28 + x * (48 - 21 * x));
    real window_slope = -168 * x5 * (1 - x) * (1 - x) / cutoff;
    real position = length * spacing;
    edge->knot = (int)position;
    /* Uniform quintic B-splines (de Boor, A Practical Guide to Splines) and their derivatives. */
    real t = position - edge->knot, t2 = t * t, t3 = t2 * t, t4 = t2 * t2, t5 = t4 * t, v = 1 - t, v4 = v * v * v * v;
    real basis[SUPPORT] = {v4 * v,
                           26 - 50 * t + 20 * t2 + 20 * t3 - 20 * t4 + 5 * t5,
                           66 - 60 * t2 + 30 * t4 - 10 * t5,
                           26 + 50 * t + 20 * t2 - 20 * t3 - 20 * t4 + 10 * t5,
                           1 + 5 * t + 10 * t2 + 10 * t3 + 5 * t4 - 5 * t5,
                           t5};
    real basis_slope[SUPPORT] = {-v4,
                                 -10 + 8 * t + 12 * t2 - 16 * t3 + 5 * t4,
                                 -24 * t + 24 * t3 - 10 * t4,
                                 10 + 8 * t - 12 * t2 - 16 * t3 + 10 * t4,
                                 1 + 4 * t + 6 * t2 + 4 * t3 - 5 * t4,
                                 t4};
    for (int k = 0; k < SUPPORT; k++) {
        edge->spline[k] = window * basis[k] * (real)(1.0 / 120);
        edge->slope[k] = window_slope * basis[k] * (real)(1.0 / 120) + window * spacing * basis_slope[k] * (real)(1.0 / 24);
    }
    return 1;
}

INLINE const real *table_of(const Model *model, int block, int target, int source, int knot, int width) {
    return model->tables[(block * model->n_species + target) * model->n_species + source] + (ptrdiff_t)knot * width;
}

/* One vector of a radial function, and of its derivative where `slope` is not null; `rows` are `width` apart. */
INLINE vec radial(const Edge *edge, const real *rows, int width, vec *slope) {
    vec value = edge->spline[0] * *cat(rows, 0);
    if (slope) *slope = edge->slope[0] * *cat(rows, 0);
#pragma GCC unroll 6
    for (int k = 1; k < SUPPORT; k++) {
        vec row = *cat(rows + (ptrdiff_t)k * width, 0);
        value += edge->spline[k] * row;
        if (slope) *slope += edge->slope[k] * row;
    }
    return value;
}

/* Real spherical harmonics as in invariants.py, and their derivatives with respect to x, y, z where `gradient` is not null. */
INLINE void harmonics(const Model *model, const real *u, real *value, real (*gradient)[3]) {
    real cosine = 1, sine = 0, diagonal = 1;
    for (int m = 0; m < LIFT_DEGREES; m++) {
        real cosine_before = cosine, sine_before = sine;
        if (m > 0) {
            cosine = u[0] * cosine_before - u[1] * sine_before;
            sine = u[0] * sine_before + u[1] * cosine_before;
            diagonal *= 2 * m - 1;
        }
        real before = 0, now = diagonal, before_slope = 0, now_slope = 0;
        for (int l = m; l < LIFT_DEGREES; l++) {
            if (l > m) {
                real next = ((2 * l - 1) * u[2] * now - (l + m - 1) * before) / (l - m);
                real next_slope = ((2 * l - 1) * (now + u[2] * now_slope) - (l + m - 1) * before_slope) / (l - m);
                before = now, now = next, before_slope = now_slope, now_slope = next_slope;
            }
            int plus = l * l + l + m, minus = l * l + l - m;
            real norm = model->harmonic_norms[plus], scaled = norm * now;
            value[plus] = scaled * cosine;
            if (m > 0) value[minus] = scaled * sine;
            if (!gradient) continue;
            gradient[plus][0] = m * scaled * cosine_before;
            gradient[plus][1] = -m * scaled * sine_before;
            gradient[plus][2] = norm * now_slope * cosine;
            if (m == 0) continue;
            gradient[minus][0] = m * scaled * sine_before;
            gradient[minus][1] = m * scaled * cosine_before;
            gradient[minus][2] = norm * now_slope * sine;
        }
    }
}

/* P_l(n_o . u) for l = 1 ... KERNEL_DEGREE, and P_l' where `slope` is not null. */
INLINE void legendre(const Model *model, const real *u, real (*value)[O], real (*slope)[O]) {
    for (int o = 0; o < O; o++) {
        const real *n = model->orientations + 3 * o;
        real x = n[0] * u[0] + n[1] * u[1] + n[2] * u[2];
        real before = 1, now = x, before_slope = 0, now_slope = 1;
        for (int l = 1; l < GRID_DEGREES; l++) {
            if (l > 1) {
                real next = ((2 * l - 1) * x * now - (l - 1) * before) / l;
                real next_slope = ((2 * l - 1) * (now + x * now_slope) - (l - 1) * before_slope) / l;
                before = now, now = next, before_slope = now_slope, now_slope = next_slope;
            }
            value[l - 1][o] = now;
            if (slope) slope[l - 1][o] = now_slope;
        }
    }
}

/* dE/dr of the edge vector from dE/d length and dE/d direction. */
INLINE void add_gradient(const Edge *edge, real along, const real *across, real *gradient) {
    real radial_part = across[0] * edge->u[0] + across[1] * edge->u[1] + across[2] * edge->u[2];
    for (int d = 0; d < 3; d++) gradient[d] += along * edge->u[d] + (across[d] - radial_part * edge->u[d]) * edge->inverse_length;
}

/* ---- convolutions; one atom at a time, coefficients `stride` apart ---- */

static void lift_forward(const Model *model, const System *system, int atom, real *out, int stride) {
    for (int n = 0; n < COEFFICIENTS; n++) memset(out + (ptrdiff_t)n * stride, 0, C * sizeof(real));
    for (int e = system->in_row[atom]; e < system->in_row[atom + 1]; e++) {
        Edge edge;
        real angular[COEFFICIENTS];
        if (!edge_geometry(model, system->vectors + 3 * (ptrdiff_t)e, &edge)) continue;
        harmonics(model, edge.u, angular, NULL);
        const real *rows = table_of(model, 0, system->species[atom], system->species[system->source[e]], edge.knot, LIFT_DEGREES * C);
        for (int v = 0; v < CV; v++)
#pragma GCC unroll 8
            for (int l = 0; l < LIFT_DEGREES; l++) {
                vec value = radial(&edge, rows + l * C + v * LANES, LIFT_DEGREES * C, NULL);
#pragma GCC unroll 16
                for (int n = l * l; n < (l + 1) * (l + 1); n++) *at(out + (ptrdiff_t)n * stride, v) += angular[n] * value;
            }
    }
}

static void lift_backward(const Model *model, const System *system, int atom, const real *pull, int stride) {
    for (int e = system->in_row[atom]; e < system->in_row[atom + 1]; e++) {
        Edge edge;
        real angular[COEFFICIENTS], slopes[COEFFICIENTS][3];
        if (!edge_geometry(model, system->vectors + 3 * (ptrdiff_t)e, &edge)) continue;
        harmonics(model, edge.u, angular, slopes);
        const real *rows = table_of(model, 0, system->species[atom], system->species[system->source[e]], edge.knot, LIFT_DEGREES * C);
        vec along = {0}, angular_pull[COEFFICIENTS] = {{0}};
        for (int v = 0; v < CV; v++)
#pragma GCC unroll 8
            for (int l = 0; l < LIFT_DEGREES; l++) {
                vec slope, sum = {0};
                vec value = radial(&edge, rows + l * C + v * LANES, LIFT_DEGREES * C, &slope);
#pragma GCC unroll 16
                for (int n = l * l; n < (l + 1) * (l + 1); n++) {
                    vec p = *cat(pull + (ptrdiff_t)n * stride, v);
                    sum += angular[n] * p;
                    angular_pull[n] += value * p;
                }
                along += slope * sum;
            }
        real across[3] = {0};
        for (int n = 1; n < COEFFICIENTS; n++) {
            real p = lane_sum(angular_pull[n]);
            for (int d = 0; d < 3; d++) across[d] += p * slopes[n][d];
        }
        add_gradient(&edge, lane_sum(along), across, system->lift_gradient + 3 * (ptrdiff_t)e);
    }
}

static void to_grid(const Model *model, const real *coefficients, int stride, real factor, real *values) {
    for (int v = 0; v < CV; v++) {
        vec f[COEFFICIENTS];
        for (int n = 0; n < COEFFICIENTS; n++) f[n] = factor * *cat(coefficients + (ptrdiff_t)n * stride, v);
        for (int o = 0; o < O; o++) {
            const real *y = model->synthesis + o * COEFFICIENTS;
            vec sum = f[0];
#pragma GCC unroll 16
            for (int n = 1; n < COEFFICIENTS; n++) sum += y[n] * f[n];
            *at(values + o * C, v) = sum;
        }
    }
}

static void to_coefficients(const Model *model, const real *values, real factor, real *coefficients, int stride) {
    for (int v = 0; v < CV; v++) {
        vec sum[COEFFICIENTS] = {{0}};
        for (int o = 0; o < O; o++) {
            const real *y = model->synthesis + o * COEFFICIENTS;
            vec f = factor * *cat(values + o * C, v);
            sum[0] += f;
#pragma GCC unroll 16
            for (int n = 1; n < COEFFICIENTS; n++) sum[n] += y[n] * f;
        }
        for (int n = 0; n < COEFFICIENTS; n++) *at(coefficients + (ptrdiff_t)n * stride, v) = sum[n];
    }
}

static void grid_forward(const Model *model, const System *system, int block, int atom, real *grid, real *out, int stride) {
    const real *values = system->values + (ptrdiff_t)(block - 1) * system->n_atoms * O * C;
    memset(grid, 0, O * C * sizeof(real));
    for (int e = system->in_row[atom]; e < system->in_row[atom + 1]; e++) {
        Edge edge;
        real angle[KERNEL_DEGREE][O];
        if (!edge_geometry(model, system->vectors + 3 * (ptrdiff_t)e, &edge)) continue;
        legendre(model, edge.u, angle, NULL);
        int source = system->source[e];
        const real *rows = table_of(model, block, system->species[atom], system->species[source], edge.knot, GRID_DEGREES * C);
        const real *f = values + (ptrdiff_t)source * O * C;
        /* The neighbours' rows lie anywhere: ask for the next one while this one is worked on. */
        const real *next = e + 1 < system->in_row[atom + 1] ? values + (ptrdiff_t)system->source[e + 1] * O * C : f;
        for (int v = 0; v < CV; v++) {
            vec degree[GRID_DEGREES];
#pragma GCC unroll 8
            for (int l = 0; l < GRID_DEGREES; l++) degree[l] = radial(&edge, rows + l * C + v * LANES, GRID_DEGREES * C, NULL);
#pragma GCC unroll 4
            for (int o = 0; o < O; o++) {
                vec kernel = degree[0];
#pragma GCC unroll 8
                for (int l = 1; l < GRID_DEGREES; l++) kernel += angle[l - 1][o] * degree[l];
                __builtin_prefetch(cat(next + o * C, v));
                *at(grid + o * C, v) += kernel * *cat(f + o * C, v);
            }
        }
    }
    to_coefficients(model, grid, (real)1 / O, out, stride);
}

/* Through the edges that leave `atom`: the gradient of its own features, into `out`, and of those edges' vectors. */
static void grid_backward(const Model *model, const System *system, int block, int atom, real *grid, real *out, int stride) {
    const real *f = system->values + ((ptrdiff_t)(block - 1) * system->n_atoms + atom) * O * C;
    memset(grid, 0, O * C * sizeof(real));
    for (int place = system->out_row[atom]; place < system->out_row[atom + 1]; place++) {
        int e = system->out_edge[place], target = system->target[e];
        Edge edge;
        real angle[KERNEL_DEGREE][O], angle_slope[KERNEL_DEGREE][O];
        if (!edge_geometry(model, system->vectors + 3 * (ptrdiff_t)e, &edge)) continue;
        legendre(model, edge.u, angle, angle_slope);
        const real *rows = table_of(model, block, system->species[target], system->species[atom], edge.knot, GRID_DEGREES * C);
        const real *pull = system->pull + (ptrdiff_t)target * O * C, *next = pull;
        if (place + 1 < system->out_row[atom + 1]) next = system->pull + (ptrdiff_t)system->target[system->out_edge[place + 1]] * O * C;
        vec along = {0}, across[3] = {{0}};
        for (int v = 0; v < CV; v++) {
            vec degree[GRID_DEGREES], slope[GRID_DEGREES], sum[GRID_DEGREES] = {{0}};
#pragma GCC unroll 8
            for (int l = 0; l < GRID_DEGREES; l++) degree[l] = radial(&edge, rows + l * C + v * LANES, GRID_DEGREES * C, &slope[l]);
#pragma GCC unroll 2
            for (int o = 0; o < O; o++) {
                vec p = *cat(pull + o * C, v), product = p * *cat(f + o * C, v), kernel = degree[0], kernel_slope = {0};
                __builtin_prefetch(cat(next + o * C, v));
                sum[0] += product;
#pragma GCC unroll 8
                for (int l = 1; l < GRID_DEGREES; l++) {
                    kernel += angle[l - 1][o] * degree[l];
                    kernel_slope += angle_slope[l - 1][o] * degree[l];
                    sum[l] += angle[l - 1][o] * product;
                }
                *at(grid + o * C, v) += kernel * p;
                kernel_slope *= product;
                for (int d = 0; d < 3; d++) across[d] += model->orientations[3 * o + d] * kernel_slope;
            }
#pragma GCC unroll 8
            for (int l = 0; l < GRID_DEGREES; l++) along += slope[l] * sum[l];
        }
        real direction[3] = {lane_sum(across[0]), lane_sum(across[1]), lane_sum(across[2])};
        add_gradient(&edge, lane_sum(along), direction, system->gradient + 3 * (ptrdiff_t)e);
    }
    to_coefficients(model, grid, 1, out, stride);
}

/* ---- the product block, on a group of n atoms: arrays [COEFFICIENTS][n][C] and [n][C] ---- */

typedef struct {
    real *a, *inverse, *factors, *q, *p, *invariants, *gates, *hidden, *mixed;
    real *pull_a, *pull_q, *pull_p, *pull_factors, *pull_gates, *pull_invariants, *pull_scalars, *pull_features, *grid, *rows;
} Scratch;

enum { FULL = COEFFICIENTS * GROUP * C, FLAT = GROUP * C };

static const int SIZES[] = {FULL, FLAT, 3 * FULL, FULL, FULL, 4 * FLAT, 4 * FLAT, FLAT, FULL,
                            FULL, FULL, FULL, 3 * FULL, 4 * FLAT, 4 * FLAT, FLAT, FULL, O * C, FULL};

int64_t scratch_size(void) {
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

INLINE vec value_at(const real *y, const vec *x) {
    vec sum = x[0];
#pragma GCC unroll 16
    for (int m = 1; m < COEFFICIENTS; m++) sum += y[m] * x[m];
    return sum;
}

INLINE void spread(const real *y, vec value, vec *x) {
    x[0] += value;
#pragma GCC unroll 16
    for (int m = 1; m < COEFFICIENTS; m++) x[m] += y[m] * value;
}

/* out = P(x1 x2) */
INLINE void fibre_product(const Model *model, const vec *x1, const vec *x2, vec *out) {
    for (int m = 0; m < COEFFICIENTS; m++) out[m] = (vec){0};
    for (int o = 0; o < O; o++) {
        const real *y = model->synthesis + o * COEFFICIENTS;
        spread(y, value_at(y, x1) * value_at(y, x2) * ((real)1 / O), out);
    }
}

/* Adds the gradients with respect to x1 and x2. */
INLINE void fibre_product_backward(const Model *model, const vec *x1, const vec *x2, const vec *pull, vec *pull1, vec *pull2) {
    for (int o = 0; o < O; o++) {
        const real *y = model->synthesis + o * COEFFICIENTS;
        vec p = value_at(y, pull) * ((real)1 / O);
        spread(y, p * value_at(y, x2), pull1);
        spread(y, p * value_at(y, x1), pull2);
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

/* ---- passes over the atoms ---- */

/* Between [n_atoms][COEFFICIENTS][C] in memory and [COEFFICIENTS][n][C] in the cache. */
static void gather(real *group, const real *all, int first, int n) {
    for (int m = 0; m < COEFFICIENTS; m++)
        for (int i = 0; i < n; i++) memcpy(group + (m * n + i) * C, all + ((ptrdiff_t)(first + i) * COEFFICIENTS + m) * C, C * sizeof(real));
}

static void scatter(real *all, const real *group, int first, int n) {
    for (int m = 0; m < COEFFICIENTS; m++)
        for (int i = 0; i < n; i++) memcpy(all + ((ptrdiff_t)(first + i) * COEFFICIENTS + m) * C, group + (m * n + i) * C, C * sizeof(real));
}

static real *part(real *base, const System *system, int block, ptrdiff_t per_atom) { return base + block * system->n_atoms * per_atom; }

/* From s->pull_a, the gradient of block b's messages: what it means for the sums over neighbours and for the block below. */
static void mixing_backward(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    const Block *block = &model->blocks[b];
    multiply_fibre(n, C, C, s->pull_a, block->message_mixing_t, s->mixed, 0);
    for (int i = 0; i < n; i++) to_grid(model, s->mixed + i * C, n * C, (real)1 / O, system->pull + (ptrdiff_t)(first + i) * O * C);
    multiply_fibre(n, C, C, s->pull_a, block->self_mixing_t, s->mixed, 0);
    scatter(part(system->joined, system, b - 1, COEFFICIENTS * C), s->mixed, first, n);
}

static void forward_pass(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    int last = b == model->n_blocks - 1;
    size_t flat = (size_t)n * C * sizeof(real);
    real *scalars = part(system->scalars, system, b, C) + (ptrdiff_t)first * C;
    if (b == 0) {
        for (int i = 0; i < n; i++) {
            system->energies[first + i] = 0;
            memcpy(scalars + i * C, model->embedding + system->species[first + i] * C, C * sizeof(real));
            lift_forward(model, system, first + i, s->a + i * C, n * C);
        }
    } else {
        for (int i = 0; i < n; i++) grid_forward(model, system, b, first + i, s->grid, s->mixed + i * C, n * C);
        multiply_fibre(n, C, C, s->mixed, model->blocks[b].message_mixing, s->a, 0);
        gather(s->rows, part(system->joined, system, b - 1, COEFFICIENTS * C), first, n);
        multiply_fibre(n, C, C, s->rows, model->blocks[b].self_mixing, s->a, 1);
    }
    if (last) {
        memcpy(s->pull_scalars, scalars, flat);
        product_forward(model, b, n, s->pull_scalars, system->energies + first, s);
        if (!system->want_gradient) return;
        memset(s->pull_scalars, 0, flat);
        product_backward(model, b, n, s);
        memcpy(system->scalar_gradient + (ptrdiff_t)first * C, s->pull_scalars, flat);
        if (b > 0) mixing_backward(model, system, b, first, n, s);
        else
            for (int i = 0; i < n; i++) lift_backward(model, system, first + i, s->pull_a + i * C, n * C);
        return;
    }
    scatter(part(system->messages, system, b, COEFFICIENTS * C), s->a, first, n);
    real *after = part(system->scalars, system, b + 1, C) + (ptrdiff_t)first * C;
    memcpy(after, scalars, flat);
    product_forward(model, b, n, after, system->energies + first, s);
    if (b == 0) memset(s->rows, 0, COEFFICIENTS * flat);
    else gather(s->rows, system->features, first, n);
    update_features(model, b, n, s->rows, s);
    scatter(system->features, s->rows, first, n);
    for (int v = 0; v < n * CV; v++) at(s->rows, 0)[v] += cat(after, 0)[v];
    scatter(part(system->joined, system, b, COEFFICIENTS * C), s->rows, first, n);
    for (int i = 0; i < n; i++)
        to_grid(model, s->rows + i * C, n * C, 1, part(system->values, system, b, O * C) + (ptrdiff_t)(first + i) * O * C);
}

/* Block b was the reader of what block b - 1 gave: back through its convolution and through the product block of b - 1. */
static void backward_pass(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    size_t flat = (size_t)n * C * sizeof(real);
    for (int i = 0; i < n; i++) grid_backward(model, system, b, first + i, s->grid, s->pull_features + i * C, n * C);
    gather(s->rows, part(system->joined, system, b - 1, COEFFICIENTS * C), first, n);
    for (int v = 0; v < COEFFICIENTS * n * CV; v++) at(s->pull_features, 0)[v] += cat(s->rows, 0)[v];
    for (int v = 0; v < n * CV; v++)
        at(s->pull_scalars, 0)[v] = cat(system->scalar_gradient + (ptrdiff_t)first * C, 0)[v] + cat(s->pull_features, 0)[v];
    if (b < model->n_blocks - 1) { /* the features also went past block b */
        gather(s->rows, system->feature_gradient, first, n);
        for (int v = 0; v < COEFFICIENTS * n * CV; v++) at(s->pull_features, 0)[v] += cat(s->rows, 0)[v];
    }
    if (b > 1) scatter(system->feature_gradient, s->pull_features, first, n);
    gather(s->a, part(system->messages, system, b - 1, COEFFICIENTS * C), first, n);
    double unused[GROUP];
    memset(unused, 0, sizeof unused);
    memcpy(s->rows, part(system->scalars, system, b - 1, C) + (ptrdiff_t)first * C, flat);
    product_forward(model, b - 1, n, s->rows, unused, s);
    product_backward(model, b - 1, n, s);
    memcpy(system->scalar_gradient + (ptrdiff_t)first * C, s->pull_scalars, flat);
    if (b > 1) {
        /* All atoms of this pass must have read `pull` first: see `evaluate`. */
        scatter(part(system->messages, system, b - 1, COEFFICIENTS * C), s->pull_a, first, n);
        return;
    }
    for (int i = 0; i < n; i++) lift_backward(model, system, first + i, s->pull_a + i * C, n * C);
}

static void mixing_pass(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    gather(s->pull_a, part(system->messages, system, b, COEFFICIENTS * C), first, n);
    mixing_backward(model, system, b, first, n, s);
}

/* ---- threads ---- */

typedef void Pass(const Model *, const System *, int, int, int, Scratch *);
typedef struct {
    const Model *model;
    const System *system;
    Pass *pass;
    int block, thread;
    int64_t *next;
} Work;

static void *work(void *argument) {
    Work *w = argument;
    Scratch scratch = scratch_of(w->system, w->thread);
    for (;;) {
        int64_t first = __atomic_fetch_add(w->next, GROUP, __ATOMIC_RELAXED);
        if (first >= w->system->n_atoms) return NULL;
        int64_t left = w->system->n_atoms - first;
        w->pass(w->model, w->system, w->block, first, left < GROUP ? left : GROUP, &scratch);
    }
}

static void run(const Model *model, const System *system, Pass *pass, int block) {
    enum { MAX_THREADS = 256 };
    pthread_t threads[MAX_THREADS];
    Work works[MAX_THREADS];
    int64_t next = 0;
    int count = system->n_threads < MAX_THREADS ? system->n_threads : MAX_THREADS, started = 1;
    for (int t = 0; t < count; t++) works[t] = (Work){model, system, pass, block, t, &next};
    for (; started < count; started++)
        if (pthread_create(&threads[started], NULL, work, &works[started])) break;
    work(&works[0]);
    for (int t = 1; t < started; t++) pthread_join(threads[t], NULL);
}

/* Fills energies and, where wanted, the two gradients (which must enter as zeros). */
void evaluate(const Model *model, const System *system) {
    for (int b = 0; b < model->n_blocks; b++) run(model, system, forward_pass, b);
    if (!system->want_gradient) return;
    for (int b = model->n_blocks - 1; b > 0; b--) {
        run(model, system, backward_pass, b);
        if (b > 1) run(model, system, mixing_pass, b - 1);
    }
}

/* The same edges by source: a counting sort. `out_row` [n_atoms + 1] enters as zeros. */
void sort_by_source(int64_t n_atoms, int64_t n_edges, const int32_t *source, int32_t *out_row, int32_t *out_edge) {
    for (int64_t e = 0; e < n_edges; e++) out_row[source[e] + 1]++;
    for (int64_t i = 0; i < n_atoms; i++) out_row[i + 1] += out_row[i];
    for (int64_t e = 0; e < n_edges; e++) out_edge[out_row[source[e]]++] = e;
    for (int64_t i = n_atoms; i > 0; i--) out_row[i] = out_row[i - 1];
    out_row[0] = 0;
}
