"""Renderers of one signature (`contracts.Renderer`): `dense` is the reference, `cpu` the fast one, `gsplat` CUDA's.

All three follow gsplat 1.5.3: EWA projection with a blur of 0.3 squared pixels, front-to-back compositing of
alpha = min(0.999, o exp(-sigma)), nothing below 1/255, and an end where transmittance would fall to 1e-4. (What numba
compiles bears `no_type_check`: it must see the bare function, also in tests, where a checker of types wraps others.)
"""

NEAR = 0.01
"""Gaussians whose centre lies nearer along z, in world units, are not drawn."""
FAR = 1e10
BLUR = 0.3
"""Added to both screen variances (squared pixels), so that no Gaussian falls between the pixels (gsplat's eps2d)."""
MARGIN = 0.3
"""The projection's derivative is taken no further outside the picture than this part of half its extent."""
MAX_EXTENT = 3.33
"""In standard deviations: beyond it even an opaque Gaussian is below MIN_ALPHA."""
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
MIN_QUAT_NORM = 1e-12
"""A quaternion shorter than this has no direction; its Gaussian is not drawn (gsplat divides by zero there)."""
