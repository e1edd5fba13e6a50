/* The C interface of a potential that `eqpot export --format library` wrote: one shared library, with no other dependency.

   A structure is atoms [n_atoms] and edges: an edge leads from a source atom to a target atom, with the vector x_source - x_target (Å).
   Every pair within the cutoff is two edges. Of a structure that is cut into domains each process holds its own, local, atoms first
   and then ghosts, which are sources of edges and never targets. Between blocks of the network, rows of numbers go from local atoms to
   ghosts of other processes, and back, by `exchange`: one cutoff of ghosts is enough. */

#ifndef EQPOT_H
#define EQPOT_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define EQPOT_INTERFACE 1 /* what eqpot_interface() of a fitting library returns */

typedef struct {
    int64_t n_atoms, n_local, n_edges, n_threads;
    const int32_t *species; /* [n_atoms]: the place of an atom's element in eqpot_elements() */
    const int32_t *source; /* [n_edges] */
    const int32_t *target; /* [n_edges], ascending, each less than n_local */
    const double *vectors; /* [n_edges][3], Å; vectors beyond the cutoff count nothing */
    /* rows [n_atoms] of eqpot_row_width() numbers of eqpot_number_size() bytes. reverse 0: fill those of ghosts with their owners'.
       reverse 1: add those of ghosts to their owners'. Called once a block, by one thread, on every process; NULL where nobody has ghosts. */
    void (*exchange)(void *context, void *rows, int reverse);
    void *context;
    double *energies; /* [n_local], filled: eV; NaN where a vector is not finite */
    double *gradient; /* [n_edges][3], filled: the derivative of the energy of all domains with respect to each vector, eV/Å */
} eqpot_system;

typedef struct eqpot_workspace eqpot_workspace; /* memory that is kept from call to call; one for each thread that calls */

int eqpot_interface(void);
const char *eqpot_header(void); /* the JSON header of the model file */
double eqpot_cutoff(void); /* Å */
int eqpot_elements(const int **numbers, const char *const **symbols); /* how many; their atomic numbers and symbols */
int eqpot_number_size(void); /* 4 or 8: float or double */
int eqpot_row_width(void);
eqpot_workspace *eqpot_open(void); /* NULL where memory has run out */
int eqpot_evaluate(eqpot_workspace *workspace, const eqpot_system *system); /* 0; 1: memory has run out; 2: `system` is not as above */
int64_t eqpot_bytes(const eqpot_workspace *workspace);
void eqpot_close(eqpot_workspace *workspace);

#ifdef __cplusplus
}
#endif
#endif
