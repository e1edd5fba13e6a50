#ifdef PAIR_CLASS
// clang-format off
PairStyle(eqpot,PairEqpot);
// clang-format on
#else

#ifndef LMP_PAIR_EQPOT_H
#define LMP_PAIR_EQPOT_H

#include "pair.h"

#include "eqpot.h"

#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairEqpot : public Pair {
 public:
  explicit PairEqpot(class LAMMPS *);
  ~PairEqpot() override;
  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  void init_list(int, class NeighList *) override;
  double init_one(int, int) override;
  void compute(int, int) override;
  double memory_usage() override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

 private:
  struct {
    decltype(&eqpot_cutoff) cutoff;
    decltype(&eqpot_elements) elements;
    decltype(&eqpot_number_size) number_size;
    decltype(&eqpot_row_width) row_width;
    decltype(&eqpot_open) open;
    decltype(&eqpot_evaluate) evaluate;
    decltype(&eqpot_bytes) bytes;
    decltype(&eqpot_close) close;
  } api = {};
  void *library = nullptr;
  eqpot_workspace *workspace = nullptr;
  double cutoff = 0.0;
  size_t row_bytes = 0;
  std::vector<int> species_of_type;

  // of the present step
  int n_local = 0;
  char *rows = nullptr;
  std::vector<int> row_of_atom, atom_of_row;
  std::vector<bool> listed;
  std::vector<int32_t> species, source, target;
  std::vector<double> vectors, gradient, energies;

  template <typename Function> void find(Function &, const char *, const std::string &);
  bool lacks_pairs() const;
  void make_rows();
  char *row(int) const;
  static void exchange(void *, void *, int);
};

}    // namespace LAMMPS_NS

#endif
#endif
