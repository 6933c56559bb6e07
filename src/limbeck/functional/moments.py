"""First and raw second moments of feature vectors, and how far two pairs of them are apart (DiME).

Source: Yeo, Jang and Yoo, "Nickel and Diming Your GAN", 2024, the authors' released training code.
"""

from jaxtyping import Float
from torch import Tensor


def raw_moments(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean over the vectors of each coordinate, and of its square (not centered)."""
    return features.mean(dim=0), features.square().mean(dim=0)


def moment_distance(
    features: Float[Tensor, "n d"], first: Float[Tensor, " d"], second: Float[Tensor, " d"]
) -> Float[Tensor, ""]:
    """Mean over coordinates of |mean - first| plus that of |mean square - second|.

    A maximum mean discrepancy with the kernel <psi(x), psi(y)>, psi(x) = (x, x * x), whose squared norm is replaced by
    the mean absolute difference. It does not vanish at a perfect match: n vectors with independent coordinates of
    variance 1 leave sqrt(2 / (pi n)) in the first part.

    Source: Yeo et al., 2024, released code; the paper's printed formula could not be read.
    """
    mean, mean_square = raw_moments(features)
    return (mean - first).abs().mean() + (mean_square - second).abs().mean()
