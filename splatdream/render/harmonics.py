"""Real spherical harmonics in the basis of Gaussian-splat files: bands 1 to 3 of a unit direction (x, y, z).

The functions take numbers or tensors alike: `dense` calls them on tensors, `_project` compiles them. Band 0 is the
constant `splats.SH_C0`. Signs and order are those of Sloan, "Efficient Spherical Harmonic Evaluation" (JCGT 2013), as
gsplat and INRIA store them.
"""

from typing import no_type_check

C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


@no_type_check
def band1(x, y, z):
    """The 3 values of degree 1."""
    return -C1 * y, C1 * z, -C1 * x


@no_type_check
def band2(x, y, z):
    """The 5 values of degree 2."""
    return (
        C2[0] * x * y,
        -C2[0] * y * z,
        C2[1] * (3 * z * z - 1),
        -C2[0] * x * z,
        C2[2] * (x * x - y * y),
    )


@no_type_check
def band3(x, y, z):
    """The 7 values of degree 3."""
    return (
        C3[0] * y * (y * y - 3 * x * x),
        C3[1] * x * y * z,
        C3[2] * y * (1 - 5 * z * z),
        C3[3] * z * (5 * z * z - 3),
        C3[2] * x * (1 - 5 * z * z),
        C3[4] * z * (x * x - y * y),
        C3[0] * x * (3 * y * y - x * x),
    )


@no_type_check
def band1_gradient(x, y, z, v0, v1, v2):
    """The gradient in (x, y, z) of sum v_k band1_k."""
    return -C1 * v2, -C1 * v0, C1 * v1


@no_type_check
def band2_gradient(x, y, z, v0, v1, v2, v3, v4):
    """The gradient in (x, y, z) of sum v_k band2_k."""
    return (
        C2[0] * (v0 * y - v3 * z) + 2 * C2[2] * v4 * x,
        C2[0] * (v0 * x - v1 * z) - 2 * C2[2] * v4 * y,
        -C2[0] * (v1 * y + v3 * x) + 6 * C2[1] * v2 * z,
    )


@no_type_check
def band3_gradient(x, y, z, v0, v1, v2, v3, v4, v5, v6):
    """The gradient in (x, y, z) of sum v_k band3_k."""
    return (
        -6 * C3[0] * v0 * x * y
        + C3[1] * v1 * y * z
        + C3[2] * v4 * (1 - 5 * z * z)
        + 2 * C3[4] * v5 * x * z
        + 3 * C3[0] * v6 * (y * y - x * x),
        3 * C3[0] * v0 * (y * y - x * x)
        + C3[1] * v1 * x * z
        + C3[2] * v2 * (1 - 5 * z * z)
        - 2 * C3[4] * v5 * y * z
        + 6 * C3[0] * v6 * x * y,
        C3[1] * v1 * x * y
        - 10 * C3[2] * z * (v2 * y + v4 * x)
        + C3[3] * v3 * (15 * z * z - 3)
        + C3[4] * v5 * (x * x - y * y),
    )
