/* A potential as a library: the fused kernel, its weights, and the interface of eqpot.h. model.h is written by library.py. */

#include "fibre_bundle.c"
#include <stdlib.h>
#pragma GCC visibility push(default)
#include "eqpot.h"
#pragma GCC visibility pop
#include "model.h"

__asm__(".section .rodata\n.balign 64\neqpot_weights:\n.incbin \"" WEIGHTS "\"\n.previous\n");
extern const real eqpot_weights[];

struct eqpot_workspace {
    char *memory;
    size_t bytes;
};

/* ---- the model ---- */

enum { N_MATRICES = offsetof(Block, energy_bias) / sizeof(real *) };

static const real *array(int64_t offset) { return offset < 0 ? NULL : eqpot_weights + offset; }

static void fill(Model *model, const real **tables) {
    *model = (Model){.n_blocks = N_BLOCKS, .n_species = N_SPECIES, .cutoff = CUTOFF, .inverse_spacing = INVERSE_SPACING};
    const int64_t *offset = OFFSETS;
    model->orientations = array(*offset++);
    model->synthesis = array(*offset++);
    model->harmonic_norms = array(*offset++);
    model->embedding = array(*offset++);
    for (int b = 0; b < N_BLOCKS; b++) {
        const real **matrices = (const real **)&model->blocks[b];
        for (int n = 0; n < N_MATRICES; n++) matrices[n] = array(*offset++);
        model->blocks[b].energy_bias = ENERGY_BIASES[b];
    }
    for (int n = 0; n < N_BLOCKS * N_SPECIES * N_SPECIES; n++) tables[n] = array(*offset++);
    model->tables = tables;
}

/* ---- memory of a call ---- */

static void *take(uintptr_t *place, size_t bytes) {
    void *taken = (void *)*place;
    *place += (bytes + 63) / 64 * 64;
    return taken;
}

typedef struct {
    real *vectors, *gradient;
    int32_t *in_row, *out_row, *out_edge;
} Edges;

/* Lays the call's arrays out from `place` on; returns the end. */
static uintptr_t lay_out(uintptr_t place, const eqpot_system *from, System *system, Edges *edges) {
    size_t atoms = from->n_atoms, full = atoms * COEFFICIENTS * C * sizeof(real), flat = atoms * C * sizeof(real), grid = flat * O;
    size_t count = from->n_edges;
    edges->vectors = take(&place, 3 * count * sizeof(real));
    edges->gradient = take(&place, 6 * count * sizeof(real));
    edges->in_row = take(&place, (from->n_local + 1) * sizeof(int32_t));
    edges->out_row = take(&place, (atoms + 1) * sizeof(int32_t));
    edges->out_edge = take(&place, count * sizeof(int32_t));
    system->messages = take(&place, (N_BLOCKS - 1) * full);
    system->scalars = take(&place, N_BLOCKS * flat);
    system->joined = take(&place, (N_BLOCKS - 1) * full);
    system->features = take(&place, N_BLOCKS > 1 ? full : 0);
    system->values = take(&place, (N_BLOCKS - 1) * grid);
    system->pull = take(&place, N_BLOCKS > 1 ? grid : 0);
    system->scalar_gradient = take(&place, flat);
    system->feature_gradient = take(&place, N_BLOCKS > 2 ? full : 0);
    system->scratch = take(&place, system->n_threads * scratch_size() * sizeof(real));
    return place;
}

static int reserve(eqpot_workspace *workspace, size_t bytes) {
    if (bytes <= workspace->bytes) return 0;
    free(workspace->memory);
    /* Somewhat more: numbers of edges change from step to step. */
    workspace->bytes = (bytes + bytes / 8 + 63) / 64 * 64;
    workspace->memory = aligned_alloc(64, workspace->bytes);
    if (workspace->memory) return 0;
    workspace->bytes = 0;
    return 1;
}

/* ---- the interface ---- */

int eqpot_interface(void) { return EQPOT_INTERFACE; }

const char *eqpot_header(void) { return HEADER; }

double eqpot_cutoff(void) { return CUTOFF; }

int eqpot_elements(const int **numbers, const char *const **symbols) {
    *numbers = NUMBERS;
    *symbols = SYMBOLS;
    return N_SPECIES;
}

int eqpot_number_size(void) { return sizeof(real); }

int eqpot_row_width(void) { return N_BLOCKS > 1 ? COEFFICIENTS * C : 0; }

eqpot_workspace *eqpot_open(void) { return calloc(1, sizeof(eqpot_workspace)); }

int64_t eqpot_bytes(const eqpot_workspace *workspace) { return workspace->bytes; }

void eqpot_close(eqpot_workspace *workspace) {
    if (workspace) free(workspace->memory);
    free(workspace);
}

static void call_exchange(void *context, real *rows, int64_t width, int reverse) {
    (void)width;
    const eqpot_system *from = context;
    from->exchange(from->context, rows, reverse);
}

/* Whether all places exist, and targets ascend. */
static int fits(const eqpot_system *from) {
    for (int64_t i = 0; i < from->n_atoms; i++)
        if (from->species[i] < 0 || from->species[i] >= N_SPECIES) return 0;
    for (int64_t e = 0; e < from->n_edges; e++) {
        if (from->source[e] < 0 || from->source[e] >= from->n_atoms || from->target[e] >= from->n_local) return 0;
        if (from->target[e] < (e ? from->target[e - 1] : 0)) return 0;
    }
    return 1;
}

int eqpot_evaluate(eqpot_workspace *workspace, const eqpot_system *from) {
    Model model;
    const real *tables[N_BLOCKS * N_SPECIES * N_SPECIES];
    fill(&model, tables);
    int64_t most = from->n_local / 64 > 1 ? from->n_local / 64 : 1;
    System system = {.n_atoms = from->n_atoms, .n_local = from->n_local, .n_edges = from->n_edges, .want_gradient = 1,
                     .n_threads = from->n_threads < 1 ? 1 : from->n_threads < most ? from->n_threads : most,
                     .exchange = from->exchange ? call_exchange : NULL, .context = (void *)from,
                     .species = from->species, .source = from->source, .target = from->target, .energies = from->energies};
    if (!fits(from)) return 2;
    Edges edges;
    if (reserve(workspace, lay_out(0, from, &system, &edges))) return 1;
    lay_out((uintptr_t)workspace->memory, from, &system, &edges);
    int finite = 1;
    for (int64_t n = 0; n < 3 * from->n_edges; n++) {
        edges.vectors[n] = from->vectors[n];
        finite &= isfinite(edges.vectors[n]) != 0;
    }
    memset(edges.gradient, 0, 6 * from->n_edges * sizeof(real));
    memset(edges.in_row, 0, (from->n_local + 1) * sizeof(int32_t));
    for (int64_t e = 0; e < from->n_edges; e++) edges.in_row[from->target[e] + 1]++;
    for (int64_t i = 0; i < from->n_local; i++) edges.in_row[i + 1] += edges.in_row[i];
    memset(edges.out_row, 0, (from->n_atoms + 1) * sizeof(int32_t));
    sort_by_source(from->n_atoms, from->n_edges, from->source, edges.out_row, edges.out_edge);
    system.vectors = edges.vectors;
    system.gradient = edges.gradient;
    system.lift_gradient = edges.gradient + 3 * from->n_edges;
    system.in_row = edges.in_row, system.out_row = edges.out_row, system.out_edge = edges.out_edge;
    evaluate(&model, &system);
    for (int64_t n = 0; n < 3 * from->n_edges; n++)
        from->gradient[n] = finite ? SCALE * (double)(system.gradient[n] + system.lift_gradient[n]) : NAN;
    for (int64_t i = 0; i < from->n_local; i++)
        from->energies[i] = finite ? SCALE * from->energies[i] + REFERENCE_ENERGIES[from->species[i]] : NAN;
    return 0;
}
