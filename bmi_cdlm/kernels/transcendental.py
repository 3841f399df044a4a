"""Powers, exponentials, logarithms and tanh for any number, the same bits wherever they are calculated.

A compiler can vectorise them, as it can those of `elementary`, each of which is for one model and a narrow range.
Error in either precision, in ulp: power and exp 1, log 2, tanh 2.5. Results below the smallest normal number are
rounded to what there is. NaN gives NaN. (1e999 is inf, as a literal.)

The polynomials are Chebyshev fits made with 60 digits (mpmath.chebyfit), their coefficients rounded to float64; pairs
of terms do not wait for each other. ln 2 stands in two parts, the first short enough for a whole number times it to be
exact. Where a product meets a sum, it is in `fma` or exact: a CUDA device would fuse it otherwise.

An adjoint takes what its function returned rather than calculate it again.
"""

from __future__ import annotations

from bmi_cdlm.kernels.bits import nearest, split_exponent, times_two_to
from bmi_cdlm.kernels.fused import fma


def log_parts(x):
    """Return hi, lo with hi + lo = ln x for 0 < x < inf: hi within 2 ulp by itself, the sum within 1/32 ulp.

    x = 2^k m and ln m = 2 atanh s = 2 s + s z P(z), where s = (m - 1) / (m + 1) and z = s^2 <= 0.0295; P to 2^-54.
    """
    m, k = split_exponent(x)
    below, above = m - 1.0, m + 1.0
    inverse = 1.0 / above
    s = below * inverse
    z = s * s
    z2 = z * z
    terms_0 = fma(z, 0.4000000000000088, 0.6666666666666666)
    terms_2 = fma(z, 0.22222222391714783, 0.2857142857080361)
    terms_4 = fma(z, 0.15386239707844115, 0.18181795640040438)
    terms_6 = fma(z, 0.13086627556452163, 0.1326877300396345)
    p = fma(z2 * z2, fma(z2, terms_6, terms_4), fma(z2, terms_2, terms_0))
    # What s leaves of m - 1, and what m + 1 lost by rounding: 2 / (m + 1) (1 + z) times it is missing in ln m.
    left = fma(-s, m - (above - 1.0), fma(-s, above, below))
    twice = inverse + inverse
    tail = fma(left, fma(z, twice, twice), fma(k, 1.4286068203094173e-06, s * (z * p)))
    head = fma(2.0, s, k * 0.693145751953125)
    hi = head + tail
    return hi, fma(2.0, s, fma(k, 0.693145751953125, -head)) + (tail - (hi - head))


def reduced_expm1(r):
    """Return e^r - 1 for |r| <= ln 2 / 2.

    The polynomial is a Chebyshev fit of (expm1(r) - r - r^2 / 2) / r^3, made with 60 digits; its pairs of terms do not
    wait for each other.
    """
    r2 = r * r
    r4 = r2 * r2
    terms_0 = fma(r, 0.041666666666666664, 0.16666666666666669)
    terms_2 = fma(r, 0.0013888888888886552, 0.008333333333330062)
    terms_4 = fma(r, 2.4801587317144498e-05, 0.00019841269863053618)
    terms_6 = fma(r, 2.755728296954995e-07, 2.7557268459997064e-06)
    terms_8 = fma(r, 2.0911236630261545e-09, 2.510038549551032e-08)
    q = fma(r4, fma(r4, terms_8, fma(r2, terms_6, terms_4)), fma(r2, terms_2, terms_0))
    return fma(r2, fma(r, q, 0.5), r)


def expm1_parts(hi, lo):
    """Return p, n with e^(hi + lo) = 2^n (1 + p) for a small lo, hi taken from -750 to 750.

    hi + lo = n ln 2 + r, and p = e^r - 1 for |r| <= ln 2 / 2.
    """
    limited = 750.0 if hi > 750.0 else (-750.0 if hi < -750.0 else hi)
    n = nearest(limited * 1.4426950408889634)
    r = fma(n, -0.693145751953125, limited) + fma(n, -1.4286068203094173e-06, lo if limited == hi else 0.0)
    return reduced_expm1(r), n


def exp(x):
    """Return e^x; its adjoint keeps the result."""
    p, n = expm1_parts(x, 0.0)
    return times_two_to(1.0 + p, n)


def exp_adjoint(y, y_adj):
    """Return x_adj of y = exp(x)."""
    return y * y_adj


def log(x):
    """Return ln x; a negative x counts as 0, whose logarithm is -inf. Its adjoint keeps x."""
    hi, _ = log_parts(x)
    return hi if 0.0 < x < 1e999 else (-1e999 if x <= 0.0 else x)


def log_adjoint(x, y_adj):
    """Return x_adj of y = log(x); 0 for x <= 0."""
    return y_adj / x if x > 0.0 else 0.0


def tanh(x):
    """Return tanh x, 0 for either zero; its adjoint keeps the result."""
    size = x if x > 0.0 else -x
    p, n = expm1_parts(40.0 if size > 20.0 else size + size, 0.0)  # from 20 on, 1 is nearest in float64 too
    scale = times_two_to(1.0, n)
    m = fma(scale, p, scale - 1.0)
    ratio = m / (m + 2.0)
    return -ratio if x < 0.0 else ratio


def tanh_adjoint(y, y_adj):
    """Return x_adj of y = tanh(x)."""
    return (1.0 - y) * (1.0 + y) * y_adj


def power_and_log(x, b):
    """Return x^b and ln x for a finite b: what the adjoint of `power` keeps, at the cost of the power alone.

    A negative x counts as 0, which stores come to by rounding: its power is 0, 1 or inf for b above, at or below 0.
    Within 1 ulp for |b| <= 10, 2 for 100, 4 for 500: b times the error of the logarithm begins to show.
    """
    hi, lo = log_parts(x)
    y = b * hi
    p, n = expm1_parts(y, fma(b, lo, fma(b, hi, -y)))
    found = times_two_to(1.0 + p, n)
    c = b if x <= 0.0 else -b
    edge = 0.0 if c > 0.0 else (1e999 if c < 0.0 else c + 1.0)
    inside = 0.0 < x < 1e999
    return (
        found if inside else (edge if x == x else x),
        hi if inside else (-1e999 if x <= 0.0 else x),
    )


def power(x, b):
    """Return x^b, the first result of `power_and_log`."""
    y, _ = power_and_log(x, b)
    return y


def power_adjoint(x, b, y, log_x, y_adj):
    """Return x_adj, b_adj of y, log_x = power_and_log(x, b), log_x without an adjoint of its own.

    Both are 0 for x <= 0, but that x^1 is as steep at 0 as anywhere.
    """
    positive = x > 0.0
    x_adj = b * (y / x) * y_adj if positive else (y_adj if x == 0.0 and b == 1.0 else 0.0)
    return x_adj, y * log_x * y_adj if positive else 0.0
