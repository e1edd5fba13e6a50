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
    IMAGES = 4,
    GROUP = 18, /* atoms that are taken through a block together */
    SUPPORT = 6, /* coefficients of a quintic spline that matter at a point */
    MAX_BLOCKS = 8
};
typedef real vec __attribute__((vector_size(64), may_alias));
typedef real half __attribute__((vector_size(32), may_alias));
typedef real quarter __attribute__((vector_size(16), may_alias));
#define INLINE static inline __attribute__((always_inline))

/* ---- what Python passes; the field order is that of the ctypes structures in call.py ---- */

typedef struct { /* matrices are [n_in][n_out], one per angular degree where the map is a FibreLinear; *_t is the transpose */
    const real *message_mixing, *message_mixing_t, *self_mixing, *self_mixing_t;
    const real *factors, *factors_t, *gates, *gates_t, *gate_bias, *update, *update_t;
    const real *readout, *readout_t, *readout_bias, *energy_weight;
    double energy_bias;
} Block;

typedef struct {
    int64_t n_blocks, n_species;
    double cutoff, inverse_spacing;
    const real *orientations; /* [O][3]: every IMAGES are a point and its images under half-turns about x, y and z */
    const real *synthesis; /* [O / IMAGES][COEFFICIENTS]: harmonics at the first of them */
    const real *harmonic_norms; /* [COEFFICIENTS] */
    const real *embedding; /* [n_species][C] */
    const real *const *tables; /* [n_blocks][n_species target][n_species source] -> [n_knots][degrees][C] */
    Block blocks[MAX_BLOCKS];
} Model;

/* Rows [n_atoms][width] of which those of the first n_local atoms are right: give ghosts what their owners have or, in reverse, add
   what ghosts have to their owners. */
typedef void Exchange(void *context, real *rows, int64_t width, int reverse);

typedef struct {
    int64_t n_atoms, n_local, n_edges, n_threads, want_gradient; /* the atoms from n_local on are ghosts: sources of edges, never targets */
    Exchange *exchange; /* called by one thread, also where there are no ghosts, as owners have to answer */
    void *context;
    const int32_t *species; /* [n_atoms] */
    const real *vectors; /* [n_edges][3] */
    const int32_t *source, *target; /* [n_edges] */
    const int32_t *in_row, *out_row, *out_edge; /* edges of a target: in_row[i] ... in_row[i + 1]; of a source: through out_edge */
    double *energies; /* [n_local] */
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
        const real *rest = a + (ptrdiff_t)r * lda;
        real *to = out + (ptrdiff_t)r * ldo + column;
        switch (rows - r) {
        case 5: multiply_tile(5, n_in, rest, lda, b + column, n_out, to, ldo, add); break;
        case 4: multiply_tile(4, n_in, rest, lda, b + column, n_out, to, ldo, add); break;
        case 3: multiply_tile(3, n_in, rest, lda, b + column, n_out, to, ldo, add); break;
        case 2: multiply_tile(2, n_in, rest, lda, b + column, n_out, to, ldo, add); break;
        case 1: multiply_tile(1, n_in, rest, lda, b + column, n_out, to, ldo, add);
        }
    }
}

/* FibreLinear on [COEFFICIENTS][n][n_in]: the coefficients of one degree are neighbouring rows. */
static void multiply_fibre(int n, int n_in, int n_out, const real *a, const real *weight, real *out, int add) {
    for (int l = 0; l < LIFT_DEGREES; l++)
        multiply((2 * l + 1) * n, n_in, n_out, a + (ptrdiff_t)l * l * n * n_in, n_in, weight + (ptrdiff_t)l * n_in * n_out,
                 out + (ptrdiff_t)l * l * n * n_out, n_out, add);
}

#include "edges.h"
#include "products.h"

/* ---- passes over the atoms ---- */

/* Between [n_atoms][COEFFICIENTS][C] in memory and [COEFFICIENTS][n][C] in the cache. */
static void gather(real *group, const real *all, int first, int n) {
    for (int m = 0; m < COEFFICIENTS; m++)
        for (int i = 0; i < n; i++)
            memcpy(group + (m * n + i) * C, all + ((ptrdiff_t)(first + i) * COEFFICIENTS + m) * C, C * sizeof(real));
}

static void scatter(real *all, const real *group, int first, int n) {
    for (int m = 0; m < COEFFICIENTS; m++)
        for (int i = 0; i < n; i++)
            memcpy(all + ((ptrdiff_t)(first + i) * COEFFICIENTS + m) * C, group + (m * n + i) * C, C * sizeof(real));
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

/* Of many ghosts nothing is read: they lie beyond the cutoff, in a neighbour list's skin. */
static int is_source(const System *system, int atom) { return system->out_row[atom] < system->out_row[atom + 1]; }

/* What block b left of ghosts, on the grid. */
static void ghost_values(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    (void)s;
    for (int i = first; i < first + n; i++) {
        const real *row = part(system->joined, system, b, COEFFICIENTS * C) + (ptrdiff_t)i * COEFFICIENTS * C;
        if (is_source(system, i)) to_grid(model, row, C, 1, part(system->values, system, b, O * C) + (ptrdiff_t)i * O * C);
    }
}

/* The gradient that block b gives to what it read of ghosts, in place of what it read. */
static void ghost_gradient(const Model *model, const System *system, int b, int first, int n, Scratch *s) {
    for (int i = first; i < first + n; i++) {
        real *row = part(system->joined, system, b - 1, COEFFICIENTS * C) + (ptrdiff_t)i * COEFFICIENTS * C;
        if (is_source(system, i)) grid_backward(model, system, b, i, s->grid, row, C);
        else memset(row, 0, COEFFICIENTS * C * sizeof(real));
    }
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
    int64_t *next, end;
} Work;

static void *work(void *argument) {
    Work *w = argument;
    Scratch scratch = scratch_of(w->system, w->thread);
    for (;;) {
        int64_t first = __atomic_fetch_add(w->next, GROUP, __ATOMIC_RELAXED);
        if (first >= w->end) return NULL;
        int64_t left = w->end - first;
        w->pass(w->model, w->system, w->block, first, left < GROUP ? left : GROUP, &scratch);
    }
}

static void run(const Model *model, const System *system, Pass *pass, int block, int64_t first, int64_t end) {
    enum { MAX_THREADS = 256 };
    pthread_t threads[MAX_THREADS];
    Work works[MAX_THREADS];
    int count = system->n_threads < MAX_THREADS ? system->n_threads : MAX_THREADS, started = 1;
    for (int t = 0; t < count; t++) works[t] = (Work){model, system, pass, block, t, &first, end};
    for (; started < count; started++)
        if (pthread_create(&threads[started], NULL, work, &works[started])) break;
    work(&works[0]);
    for (int t = 1; t < started; t++) pthread_join(threads[t], NULL);
}

static void exchange(const System *system, int block, int reverse) {
    if (system->exchange)
        system->exchange(system->context, part(system->joined, system, block, COEFFICIENTS * C), COEFFICIENTS * C, reverse);
}

/* Fills energies and, where wanted, the two gradients (which must enter as zeros). */
static void evaluate(const Model *model, const System *system) {
    int64_t own = system->n_local, all = system->n_atoms;
    int last = model->n_blocks - 1;
    for (int b = 0; b <= last; b++) {
        run(model, system, forward_pass, b, 0, own);
        if (b == last) break;
        exchange(system, b, 0);
        if (all > own) run(model, system, ghost_values, b, own, all);
    }
    if (!system->want_gradient) return;
    for (int b = last; b > 0; b--) {
        if (all > own) run(model, system, ghost_gradient, b, own, all);
        exchange(system, b - 1, 1);
        run(model, system, backward_pass, b, 0, own);
        if (b > 1) run(model, system, mixing_pass, b - 1, 0, own);
    }
}

/* The same edges by source: a counting sort. `out_row` [n_atoms + 1] enters as zeros. */
static void sort_by_source(int64_t n_atoms, int64_t n_edges, const int32_t *source, int32_t *out_row, int32_t *out_edge) {
    for (int64_t e = 0; e < n_edges; e++) out_row[source[e] + 1]++;
    for (int64_t i = 0; i < n_atoms; i++) out_row[i + 1] += out_row[i];
    for (int64_t e = 0; e < n_edges; e++) out_edge[out_row[source[e]]++] = e;
    for (int64_t i = n_atoms; i > 0; i--) out_row[i] = out_row[i - 1];
    out_row[0] = 0;
}

/* ---- calls from Python, in the types that it has; other names are static, as any library of the process may have the same ---- */

enum { NOT_FINITE = 1, NOT_SORTED = 2, NO_TABLE = 4, TOO_CLOSE = 8, NO_ATOM = 16 };

static int is_within(int64_t index, int64_t n) { return 0 <= index && index < n; }

/* Fills species to out_edge of `system`, arrays of the caller that are not const to it, and zeroes the gradients; returns what is wrong.
   With ghosts others wait for an answer, so there finite vectors are the caller's business. */
static int64_t prepare(const Model *model, const System *system, const int64_t *species, const int64_t *sources, const int64_t *targets,
                       const double *vectors) {
    int64_t n_edges = system->n_edges, wrong = 0;
    int32_t *source = (int32_t *)system->source, *target = (int32_t *)system->target, *kinds = (int32_t *)system->species;
    int32_t *in_row = (int32_t *)system->in_row, *out_row = (int32_t *)system->out_row;
    real *narrow = (real *)system->vectors;
    for (int64_t i = 0; i < system->n_atoms; i++) {
        if (!is_within(species[i], model->n_species)) return NO_ATOM;
        kinds[i] = species[i];
    }
    memset(in_row, 0, (system->n_local + 1) * sizeof(int32_t));
    for (int64_t e = 0; e < n_edges; e++) {
        if (!is_within(sources[e], system->n_atoms) || !is_within(targets[e], system->n_local)) return NO_ATOM;
        source[e] = sources[e], target[e] = targets[e];
        if (e > 0 && target[e] < target[e - 1]) wrong |= NOT_SORTED;
        if (!model->tables[kinds[target[e]] * model->n_species + kinds[source[e]]]) wrong |= NO_TABLE;
        in_row[target[e] + 1]++;
    }
    for (int64_t i = 0; i < system->n_local; i++) in_row[i + 1] += in_row[i];
    int finite = 1;
    for (int64_t n = 0; n < 3 * n_edges; n++) {
        narrow[n] = vectors[n];
        finite &= isfinite(narrow[n]) != 0;
    }
    if (!finite && !system->exchange) wrong |= NOT_FINITE;
    if (wrong) return wrong;
    memset(out_row, 0, (system->n_atoms + 1) * sizeof(int32_t));
    sort_by_source(system->n_atoms, n_edges, source, out_row, (int32_t *)system->out_edge);
    memset(system->gradient, 0, 3 * n_edges * sizeof(real));
    memset(system->lift_gradient, 0, 3 * n_edges * sizeof(real));
    return 0;
}

int64_t eqpot_scratch_size(void) { return scratch_size(); }

/* species [n_atoms], sources and targets [n_edges] and vectors [n_edges][3] in; energies and gradient [n_edges][3] out, if all is well:
   returns 0, or else what is wrong, and has done nothing. */
static int64_t call(const Model *model, const System *system, const int64_t *species, const int64_t *sources, const int64_t *targets,
                    const double *vectors, double *gradient) {
    int64_t wrong = prepare(model, system, species, sources, targets, vectors);
    if (wrong) return wrong;
    evaluate(model, system);
    for (int64_t n = 0; n < 3 * system->n_edges; n++) gradient[n] = system->gradient[n] + system->lift_gradient[n];
    return 0;
}

int64_t eqpot_call(const Model *model, const System *system, const int64_t *species, const int64_t *sources, const int64_t *targets,
                   const double *vectors, double *gradient) {
    return call(model, system, species, sources, targets, vectors, gradient);
}

typedef struct { /* a batch of structures as in eqpot/graph.py; units of eqpot/potential.py */
    int64_t n_structures, n_edges; /* edges may be longer than the cutoff: those have no part in anything */
    double scale, closest; /* no two atoms may be nearer, Å */
    const double *reference_energies; /* [n_species] */
    const int64_t *species, *batch, *edges, *shifts; /* [n_atoms], [n_atoms], [2][n_edges], [n_edges][3] */
    const double *positions, *cells; /* [n_atoms][3], [n_structures][3][3] */
    int64_t *source, *target; /* [n_edges]: of the edges within the cutoff, as are */
    double *vectors, *gradient; /* [n_edges][3] */
    double *energy, *forces, *stress; /* [n_structures], [n_atoms][3], [n_structures][3][3]: these enter as zeros */
} Structures;

/* Picks the edges within the cutoff, measured in double: what is beyond must not come back by rounding. Returns what is wrong. */
static int64_t near_edges(const Structures *s, double cutoff, int64_t n_atoms, int64_t *number) {
    int64_t n_near = 0;
    for (int64_t i = 0; i < n_atoms; i++)
        if (!is_within(s->batch[i], s->n_structures)) return NO_ATOM;
    for (int64_t e = 0; e < s->n_edges; e++) {
        int64_t source = s->edges[e], target = s->edges[s->n_edges + e];
        if (!is_within(source, n_atoms) || !is_within(target, n_atoms)) return NO_ATOM;
        const double *cell = s->cells + 9 * s->batch[target];
        double *vector = s->vectors + 3 * n_near, square = 0;
        for (int d = 0; d < 3; d++) {
            double offset = s->shifts[3 * e] * cell[d] + s->shifts[3 * e + 1] * cell[3 + d] + s->shifts[3 * e + 2] * cell[6 + d];
            vector[d] = s->positions[3 * source + d] - s->positions[3 * target + d] + offset;
            square += vector[d] * vector[d];
        }
        if (square < s->closest * s->closest) return TOO_CLOSE;
        if (square >= cutoff * cutoff && isfinite(square)) continue;
        s->source[n_near] = source, s->target[n_near] = target;
        n_near++;
    }
    *number = n_near;
    return 0;
}

/* From sum r g^T over the edges of a structure: the symmetric part over the volume, or zero where there is none. */
static void stress_of(double *stress, const double *cell) {
    double volume = 0;
    for (int d = 0; d < 3; d++)
        volume += cell[d] * (cell[3 + (d + 1) % 3] * cell[6 + (d + 2) % 3] - cell[3 + (d + 2) % 3] * cell[6 + (d + 1) % 3]);
    for (int a = 0; a < 3; a++)
        for (int b = a; b < 3; b++) {
            double symmetric = (stress[3 * a + b] + stress[3 * b + a]) / 2;
            stress[3 * a + b] = stress[3 * b + a] = volume != 0 ? symmetric / fabs(volume) : 0;
        }
}

/* Fills what Structures and System have for results; returns what `call` returns. Sums over the atoms and edges of a structure go one after
   the other, so that results do not depend on the batch. */
int64_t eqpot_evaluate_structures(const Model *model, System *system, const Structures *s) {
    int64_t wrong = near_edges(s, model->cutoff, system->n_atoms, &system->n_edges), n_edges = system->n_edges;
    if (wrong) return wrong;
    wrong = call(model, system, s->species, s->source, s->target, s->vectors, s->gradient);
    if (wrong) return wrong;
    for (int64_t i = 0; i < system->n_atoms; i++) {
        system->energies[i] = s->scale * system->energies[i] + s->reference_energies[s->species[i]];
        s->energy[s->batch[i]] += system->energies[i];
    }
    if (!system->want_gradient) return 0;
    for (int64_t e = 0; e < n_edges; e++) {
        double *g = s->gradient + 3 * e, *stress = s->stress + 9 * s->batch[s->target[e]];
        for (int d = 0; d < 3; d++) {
            g[d] *= s->scale;
            s->forces[3 * s->target[e] + d] += g[d];
            s->forces[3 * s->source[e] + d] -= g[d];
        }
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++) stress[3 * a + b] += s->vectors[3 * e + a] * g[b];
    }
    for (int64_t n = 0; n < s->n_structures; n++) stress_of(s->stress + 9 * n, s->cells + 9 * n);
    return 0;
}
