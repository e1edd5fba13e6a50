/* pair_style eqpot FILE, pair_coeff * * ELEMENT ...: potentials that `eqpot export --format library` wrote, in LAMMPS.

   The library computes; this file hands it the neighbour list and lets the features of ghost atoms travel by LAMMPS's own communication,
   between the blocks of the network. So one cutoff of ghosts is enough, on any number of MPI ranks.

   Built by `eqpot lammps build`, or by the CMakeLists.txt beside it. As a work that links to LAMMPS its binary is under the GPL v2. */

#include "pair_eqpot.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include <cmath>
#include <cstring>
#include <dlfcn.h>

using namespace LAMMPS_NS;

PairEqpot::PairEqpot(LAMMPS *lmp) : Pair(lmp) {
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  writedata = 0;
  no_virial_fdotr_compute = 1;    // compute() fills the virial
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairEqpot::~PairEqpot() {
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
  if (workspace) api.close(workspace);
  if (library) dlclose(library);
}

template <typename Function> void PairEqpot::find(Function &function, const char *name, const std::string &file) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function) error->all(FLERR, "Pair style eqpot: {} is no library of eqpot; write it by eqpot export --format library", file);
}

/* The widths of the communication must be known here: pair style hybrid copies them right after. */
void PairEqpot::settings(int narg, char **arg) {
  if (narg != 1) error->all(FLERR, "Pair style eqpot takes one argument, the library that eqpot export --format library wrote");
  if (library) error->all(FLERR, "Pair style eqpot: give pair_style again only after clear");
  std::string file = arg[0];
  if (file.find('/') == std::string::npos) file = "./" + file;    // or the loader would look in system folders
  library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) error->all(FLERR, "Pair style eqpot cannot load {}: {}", arg[0], dlerror());
  int (*interface)();
  find(interface, "eqpot_interface", file);
  if (interface() != EQPOT_INTERFACE)
    error->all(FLERR, "Pair style eqpot: {} was written by another version of eqpot; export it again, or build the plugin again", file);
  find(api.cutoff, "eqpot_cutoff", file);
  find(api.elements, "eqpot_elements", file);
  find(api.number_size, "eqpot_number_size", file);
  find(api.row_width, "eqpot_row_width", file);
  find(api.open, "eqpot_open", file);
  find(api.evaluate, "eqpot_evaluate", file);
  find(api.bytes, "eqpot_bytes", file);
  find(api.close, "eqpot_close", file);
  workspace = api.open();
  if (!workspace) error->one(FLERR, "Pair style eqpot: no memory");
  cutoff = api.cutoff();
  row_bytes = (size_t) api.row_width() * api.number_size();
  comm_forward = comm_reverse = (int) ((row_bytes + sizeof(double) - 1) / sizeof(double));
}

void PairEqpot::coeff(int narg, char **arg) {
  const int types = atom->ntypes;
  const int *numbers;
  const char *const *known;
  const int count = api.elements(&numbers, &known);
  std::string symbols;
  for (int k = 0; k < count; k++) symbols += std::string(k ? " " : "") + known[k];
  if (narg != 2 + types)
    error->all(FLERR, "Pair style eqpot: expected pair_coeff * * and an element for each of the {} atom types; known are: {}", types, symbols);
  species_of_type.assign(types + 1, -1);
  for (int type = 1; type <= types; type++) {
    const char *symbol = arg[1 + type];
    if (!strcmp(symbol, "NULL")) continue;
    for (int k = 0; k < count; k++)
      if (!strcmp(symbol, known[k])) species_of_type[type] = k;
    if (species_of_type[type] < 0)
      error->all(FLERR, "Pair style eqpot: the potential was not fitted to {}, which atom type {} is to be; it knows {}", symbol, type, symbols);
  }
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, types + 1, types + 1, "pair:setflag");
    memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
  }
  for (int i = 1; i <= types; i++)
    for (int j = 1; j <= types; j++) setflag[i][j] = species_of_type[i] >= 0 && species_of_type[j] >= 0;
}

void PairEqpot::init_style() {
  if (strcmp(update->unit_style, "metal")) error->all(FLERR, "Pair style eqpot computes in eV and Angstrom: use units metal");
  if (!force->newton_pair) error->all(FLERR, "Pair style eqpot needs newton on: forces on ghost atoms go back to their owners");
  if (lacks_pairs())
    error->all(FLERR, "Pair style eqpot needs all pairs, and special_bonds takes those of bonded atoms out: use special_bonds lj/coul 1 1 1");
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

/* Exclusions are known when lists are made, and not before. */
void PairEqpot::init_list(int id, NeighList *made) {
  Pair::init_list(id, made);
  if (neighbor->exclude_setting())
    error->all(FLERR, "Pair style eqpot needs all pairs: an atom that stays still takes part in the forces on others; leave out neigh_modify exclude");
}

/* Whether the neighbour list leaves out pairs of this potential's atoms: where both factors of bonded pairs are zero, LAMMPS drops them. */
bool PairEqpot::lacks_pairs() const {
  bool drops = false;
  for (int k = 1; k <= 3; k++) drops = drops || (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0);
  if (!drops || atom->molecular == Atom::ATOMIC) return false;
  int bonded = atom->molecular == Atom::TEMPLATE;
  for (int i = 0; i < atom->nlocal && !bonded; i++) bonded = species_of_type[atom->type[i]] >= 0 && atom->nspecial[i][2] > 0;
  int anywhere = 0;
  MPI_Allreduce(&bonded, &anywhere, 1, MPI_INT, MPI_MAX, world);
  return anywhere != 0;
}

double PairEqpot::init_one(int, int) { return cutoff; }

/* Rows are atoms of this potential's elements: local ones, then all ghosts, as ranks pass on ghosts that they have no use for. */
void PairEqpot::make_rows() {
  const int all = atom->nlocal + atom->nghost;
  row_of_atom.assign(all, -1);
  atom_of_row.clear();
  source.clear();
  target.clear();
  vectors.clear();
  for (int i = 0; i < all; i++) {
    if (i == atom->nlocal) n_local = (int) atom_of_row.size();
    if (species_of_type[atom->type[i]] < 0) continue;
    row_of_atom[i] = (int) atom_of_row.size();
    atom_of_row.push_back(i);
  }
  if (!atom->nghost) n_local = (int) atom_of_row.size();
  double **x = atom->x;
  // Where `hybrid` gives all pairs of a type to others, its atoms are not in the list.
  listed.assign(atom->nlocal, false);
  for (int n = 0; n < list->inum; n++) listed[list->ilist[n]] = true;
  for (int row = 0; row < n_local; row++) {
    const int i = atom_of_row[row];
    if (!listed[i]) continue;
    const int *neighbors = list->firstneigh[i];
    for (int n = 0; n < list->numneigh[i]; n++) {
      const int j = neighbors[n] & NEIGHMASK;
      if (row_of_atom[j] < 0) continue;
      const double r[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
      // Not "skip if beyond": a position that is no number has to reach the energy.
      if (r[0] * r[0] + r[1] * r[1] + r[2] * r[2] >= cutoff * cutoff) continue;
      source.push_back(row_of_atom[j]);
      target.push_back(row);
      vectors.insert(vectors.end(), r, r + 3);
    }
  }
  species.resize(atom_of_row.size());
  for (size_t row = 0; row < atom_of_row.size(); row++) species[row] = species_of_type[atom->type[atom_of_row[row]]];
}

void PairEqpot::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  make_rows();
  energies.resize(n_local);
  gradient.resize(vectors.size());
  // A rank without atoms takes part too: communication is for all.
  const eqpot_system system = {(int64_t) atom_of_row.size(), n_local, (int64_t) source.size(), comm->nthreads,
                               species.data(), source.data(), target.data(), vectors.data(),
                               comm_forward ? exchange : nullptr, this, energies.data(), gradient.data()};
  if (api.evaluate(workspace, &system)) error->one(FLERR, "Pair style eqpot: no memory for {} atoms and {} pairs", n_local, source.size());

  double **f = atom->f;
  for (size_t e = 0; e < source.size(); e++) {
    const int i = atom_of_row[target[e]], j = atom_of_row[source[e]];
    const double *r = &vectors[3 * e], *g = &gradient[3 * e];
    for (int d = 0; d < 3; d++) {
      f[i][d] += g[d];
      f[j][d] -= g[d];
    }
    if (!vflag_either) continue;
    const double v[6] = {-r[0] * g[0], -r[1] * g[1], -r[2] * g[2], -0.5 * (r[0] * g[1] + r[1] * g[0]), -0.5 * (r[0] * g[2] + r[2] * g[0]),
                         -0.5 * (r[1] * g[2] + r[2] * g[1])};
    for (int k = 0; k < 6; k++) {
      if (vflag_global) virial[k] += v[k];
      if (vflag_atom) {
        vatom[i][k] += 0.5 * v[k];
        vatom[j][k] += 0.5 * v[k];
      }
    }
  }
  if (eflag_either)
    for (int row = 0; row < n_local; row++) {
      if (eflag_global) eng_vdwl += energies[row];
      if (eflag_atom) eatom[atom_of_row[row]] += energies[row];
    }
}

double PairEqpot::memory_usage() {
  const size_t edges = source.capacity() * (2 * sizeof(int32_t) + 6 * sizeof(double));
  return Pair::memory_usage() + (double) (edges + row_of_atom.capacity() * 4 * sizeof(int)) + (workspace ? (double) api.bytes(workspace) : 0.0);
}

/* ---- features of ghosts ---- */

void PairEqpot::exchange(void *context, void *rows, int reverse) {
  auto *pair = static_cast<PairEqpot *>(context);
  pair->rows = static_cast<char *>(rows);
  if (reverse) pair->comm->reverse_comm(pair, pair->comm_reverse);
  else pair->comm->forward_comm(pair, pair->comm_forward);
}

char *PairEqpot::row(int i) const { return row_of_atom[i] < 0 ? nullptr : rows + row_bytes * row_of_atom[i]; }

int PairEqpot::pack_forward_comm(int n, int *atoms, double *buffer, int, int *) {
  for (int k = 0; k < n; k++, buffer += comm_forward)
    if (const char *from = row(atoms[k])) memcpy(buffer, from, row_bytes);
    else memset(buffer, 0, row_bytes);
  return n * comm_forward;
}

void PairEqpot::unpack_forward_comm(int n, int first, double *buffer) {
  for (int k = 0; k < n; k++, buffer += comm_forward)
    if (char *to = row(first + k)) memcpy(to, buffer, row_bytes);
}

int PairEqpot::pack_reverse_comm(int n, int first, double *buffer) {
  for (int k = 0; k < n; k++, buffer += comm_reverse)
    if (const char *from = row(first + k)) memcpy(buffer, from, row_bytes);
    else memset(buffer, 0, row_bytes);
  return n * comm_reverse;
}

template <typename Real> static void add(char *to, const double *buffer, size_t bytes) {
  auto *sum = reinterpret_cast<Real *>(to);
  const auto *share = reinterpret_cast<const Real *>(buffer);
  for (size_t n = 0; n < bytes / sizeof(Real); n++) sum[n] += share[n];
}

void PairEqpot::unpack_reverse_comm(int n, int *atoms, double *buffer) {
  for (int k = 0; k < n; k++, buffer += comm_reverse)
    if (char *to = row(atoms[k])) api.number_size() == 4 ? add<float>(to, buffer, row_bytes) : add<double>(to, buffer, row_bytes);
}

/* ---- the plugin; LAMMPS's lammpsplugin.h, which binary distributions leave out. Without a version this is a part of LAMMPS itself. ---- */

#ifdef EQPOT_LAMMPS_VERSION
extern "C" {
typedef struct {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*v1)(void *);
    void *(*v2)(void *, int, char **);
  } creator;
  void *handle;
} lammpsplugin_t;

void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  auto *lammps = static_cast<LAMMPS *>(lmp);
  if (strcmp(lammps->version, EQPOT_LAMMPS_VERSION))
    lammps->error->all(FLERR, "The plugin of eqpot was built for LAMMPS {}, and this is {}: build it again by eqpot lammps build",
                       EQPOT_LAMMPS_VERSION, lammps->version);
  lammpsplugin_t plugin = {EQPOT_LAMMPS_VERSION, "pair", "eqpot", "Potentials of eqpot", "eqpot", {nullptr}, handle};
  plugin.creator.v1 = [](void *owner) -> void * { return new PairEqpot(static_cast<LAMMPS *>(owner)); };
  reinterpret_cast<void (*)(lammpsplugin_t *, void *)>(regfunc)(&plugin, lmp);
}
}
#endif
