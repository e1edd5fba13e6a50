"""Small VASP outputs, written after the layout of the real ones, with numbers that a test can know."""

CELL = [[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 5.0]]
SCALED = [[0.0, 0.0, 0.0], [0.5, 0.25, 0.2]]
STRESS_KBAR = [10.0, 20.0, 30.0, 4.0, 5.0, 6.0]  # xx yy zz xy yz zx, positive under compression


def vasprun(n_steps=2, constrained=False):
    def rows(values):
        return "".join(f"<v> {' '.join(f'{value:.8f}' for value in row)} </v>" for row in values)

    def structure(name=""):
        fixed = "<varray name='selective'><v type='logical'> F F F </v><v type='logical'> T T T </v></varray>" if constrained else ""
        crystal = f"<crystal><varray name='basis'>{rows(CELL)}</varray></crystal>"
        return f"<structure{name}>{crystal}<varray name='positions'>{rows(SCALED)}</varray>{fixed}</structure>"

    xx, yy, zz, xy, yz, zx = STRESS_KBAR
    steps = ""
    for step in range(n_steps):
        forces = [[0.1 + step, 0.2, 0.3], [-0.1 - step, -0.2, -0.3]]
        steps += (
            "<calculation><scstep><energy><i name='e_fr_energy'> -10.0 </i><i name='e_0_energy'> -9.9 </i></energy></scstep>"
            f"{structure()}<varray name='forces'>{rows(forces)}</varray>"
            f"<varray name='stress'>{rows([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])}</varray>"
            f"<energy><i name='e_fr_energy'> {-20.0 - step} </i></energy></calculation>"
        )
    initial = " name='initialpos'"
    atoms = "".join(f"<rc><c>{symbol} </c><c>{kind}</c></rc>" for kind, symbol in enumerate(("Si", "C"), 1))
    return (
        "<?xml version='1.0' encoding='ISO-8859-1'?><modeling><kpoints><varray name='kpointlist'><v> 0 0 0 </v></varray>"
        "<varray name='weights'><v> 1.0 </v></varray></kpoints><parameters></parameters>"
        f"<atominfo><array name='atoms'><set>{atoms}</set></array></atominfo>"
        f"{structure(initial)}{steps}</modeling>"
    )


def outcar(n_steps=2):
    positions = [[a * CELL[0][0], b * CELL[1][1], c * CELL[2][2]] for a, b, c in SCALED]
    text = (
        " vasp.5.4.4\n POTCAR:    PAW_PBE Si 05Jan2001\n POTCAR:    PAW_PBE C 08Apr2002\n"
        " POTCAR:    PAW_PBE Si 05Jan2001\n POTCAR:    PAW_PBE C 08Apr2002\n   ISPIN  =      1    spin polarized calculation?\n"
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      4\n"
        "   ions per type =               1   1\n k-points in reciprocal lattice and weights: Gamma\n   0.0 0.0 0.0      1.000\n\n"
    )
    for step in range(n_steps):
        text += f"------------------------ Iteration      {step + 1}(   1)  -----------------------\n"
        text += "  in kB  " + " ".join(f"{value:.5f}" for value in STRESS_KBAR) + "\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n"
        text += "".join(" ".join(f"{value:.9f}" for value in row) + "  0.3 0.0 0.0\n" for row in CELL)
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n -----------------\n"
        for sign, position in zip((1, -1), positions, strict=True):
            text += " ".join(f"{value:.6f}" for value in (*position, sign * (0.1 + step), sign * 0.2, sign * 0.3)) + "\n"
        text += " -----------------\n  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------\n"
        text += f"  free  energy   TOTEN  =   {-20.0 - step:.6f} eV\n\n"
        text += f"  energy  without entropy=  {-19.8 - step:.6f}  energy(sigma->0) =  {-19.9 - step:.6f}\n"
    return text + "\n                  Total CPU time used (sec):       10.0\n"
