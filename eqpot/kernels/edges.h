/* Edges: their geometry, the convolutions over them, and the transforms between coefficients and grid. Part of fibre_bundle.c. */

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
    if (!(length < cutoff)) return 0;
    edge->inverse_length = 1 / length;
    for (int d = 0; d < 3; d++) edge->u[d] = r[d] * edge->inverse_length;
    real x = length / cutoff, rest = 1 - x;
    real window = rest * rest * rest * (1 + x * (3 + x * (6 + x * (10 + x * (15 + 21 * x)))));
    real window_slope = -168 * x * x * x * x * x * rest * rest / cutoff;
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

/* ---- between coefficients and grid ----

   Half-turns about the three axes map the grid onto itself, and each changes the signs of some harmonics and leaves the others. So of
   every four points that they make of one, the harmonics of one are enough: the coefficients of each of the four kinds of harmonics are
   summed there, and the values at the four points are sums and differences of these. */

/* 0 for harmonics that no half-turn changes, or 1, 2, 3: only the one about x, y or z leaves it as it is. */
INLINE int kind_of(int l, int m) {
    int across = m < 0 ? -m : m, odd_x = (m < 0 ? across + 1 : across) % 2, odd_y = m < 0, odd_z = (l + across) % 2;
    return (odd_x ^ odd_z) + 2 * (odd_y ^ odd_z);
}

INLINE const real *synthesis_of(const Model *model, int o) { return model->synthesis + o / IMAGES * COEFFICIENTS; }

/* From coefficients to the values at a point and its images under half-turns about x, y and z. */
INLINE void values_at(const real *y, const vec *coefficients, vec *values) {
    vec sum[IMAGES] = {coefficients[0]};
#pragma GCC unroll 8
    for (int l = 1; l < LIFT_DEGREES; l++)
#pragma GCC unroll 16
        for (int m = -l; m <= l; m++) sum[kind_of(l, m)] += y[l * l + l + m] * coefficients[l * l + l + m];
    vec a = sum[0] + sum[1], b = sum[0] - sum[1], c = sum[2] + sum[3], d = sum[2] - sum[3];
    values[0] = a + c, values[1] = a - c, values[2] = b + d, values[3] = b - d;
}

/* The transpose: adds to coefficients what the values at the four points give. */
INLINE void spread(const real *y, const vec *values, vec *coefficients) {
    vec a = values[0] + values[1], b = values[0] - values[1], c = values[2] + values[3], d = values[2] - values[3];
    vec sum[IMAGES] = {a + c, a - c, b + d, b - d};
    coefficients[0] += sum[0];
#pragma GCC unroll 8
    for (int l = 1; l < LIFT_DEGREES; l++)
#pragma GCC unroll 16
        for (int m = -l; m <= l; m++) coefficients[l * l + l + m] += y[l * l + l + m] * sum[kind_of(l, m)];
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
        vec f[COEFFICIENTS], at_images[IMAGES];
        for (int n = 0; n < COEFFICIENTS; n++) f[n] = factor * *cat(coefficients + (ptrdiff_t)n * stride, v);
        for (int o = 0; o < O; o += IMAGES) {
            values_at(synthesis_of(model, o), f, at_images);
            for (int k = 0; k < IMAGES; k++) *at(values + (o + k) * C, v) = at_images[k];
        }
    }
}

static void to_coefficients(const Model *model, const real *values, real factor, real *coefficients, int stride) {
    for (int v = 0; v < CV; v++) {
        vec sum[COEFFICIENTS] = {{0}}, at_images[IMAGES];
        for (int o = 0; o < O; o += IMAGES) {
            for (int k = 0; k < IMAGES; k++) at_images[k] = *cat(values + (o + k) * C, v);
            spread(synthesis_of(model, o), at_images, sum);
        }
        for (int n = 0; n < COEFFICIENTS; n++) *at(coefficients + (ptrdiff_t)n * stride, v) = factor * sum[n];
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
