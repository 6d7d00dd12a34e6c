//! Compares every operation of every instruction set with `f32`'s own, lane by lane; and partial loads and stores at
//! the exact ends of slices.

mod common;

use coreml_kernels::Isa;
use coreml_kernels::simd::{Kernel, MAX_LANES, Simd};

/// Values whose handling tells instruction sets apart.
const VALUES: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.5,
    2.5,
    -3.5,
    1e-40,
    -1e38,
    f32::MAX,
    f32::MIN_POSITIVE,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    8388609.0,
    0.1,
];

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Compares two operands' results with those of `f32`.
struct Lanewise(f32, f32);

impl Kernel for Lanewise {
    type Output = Vec<(&'static str, [f32; MAX_LANES], f32)>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let Self(x, y) = self;
        let (a, b) = (s.splat(x), s.splat(y));
        vec![
            ("add", s.to_array(s.add(a, b)), x + y),
            ("sub", s.to_array(s.sub(a, b)), x - y),
            ("mul", s.to_array(s.mul(a, b)), x * y),
            ("div", s.to_array(s.div(a, b)), x / y),
            ("min", s.to_array(s.min(a, b)), if x < y { x } else { y }),
            ("max", s.to_array(s.max(a, b)), if x > y { x } else { y }),
            ("sqrt", s.to_array(s.sqrt(a)), x.sqrt()),
            ("abs", s.to_array(s.abs(a)), x.abs()),
            ("neg", s.to_array(s.neg(a)), -x),
            ("power_below", s.to_array(s.power_below(a)), f32::from_bits(x.to_bits() & 0x7f80_0000)),
            ("round", s.to_array(s.round(a)), x.round_ties_even()),
            ("select", s.to_array(s.select(s.lt(a, b), a, b)), if x < y { x } else { y }),
        ]
    }
}

#[test]
fn operations_are_those_of_f32() {
    for isa in Isa::available() {
        for x in VALUES {
            for y in VALUES {
                for (operation, lanes, expected) in isa.dispatch(Lanewise(x, y)) {
                    for &lane in &lanes[..isa.lanes()] {
                        assert!(
                            same(lane, expected),
                            "{} {operation}({x:e}, {y:e}) is {lane:e}, not {expected:e}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

/// `a * b + c` and `a / b` of ordinary values.
struct Arithmetic([f32; 3]);

impl Kernel for Arithmetic {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let [a, b, c] = self.0.map(|x| s.splat(x));
        (s.to_array(s.fma(a, b, c))[0], s.to_array(s.div_fast(a, b))[0])
    }
}

#[test]
fn multiply_add_rounds_once_or_twice_and_fast_division_errs_by_two_ulp() {
    let mut x = 0.37f32;
    for _ in 0..2000 {
        x = (x * 3.9 * (1.0 - x)).clamp(0.01, 0.99);
        let (a, b, c) = (x + 0.5, 2.0 - x, x - 0.4);
        for isa in Isa::available() {
            let (sum, quotient) = isa.dispatch(Arithmetic([a, b, c]));
            assert!(sum == a.mul_add(b, c) || sum == a * b + c, "{}: {a} * {b} + {c} is {sum}", isa.name());
            let distance = (i64::from(quotient.to_bits()) - i64::from((a / b).to_bits())).abs();
            assert!(distance <= 2, "{}: {a} / {b} is {quotient}", isa.name());
        }
    }
}

struct Scaled(f32, f32);

impl Kernel for Scaled {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        s.to_array(s.scale_by_pow2(s.splat(self.0), s.splat(self.1)))[0]
    }
}

#[test]
fn scaling_by_powers_of_two_is_exact_to_both_ends_of_the_range() {
    for isa in Isa::available() {
        for n in -252i32..=252 {
            for x in [1.0f32, 1.5, -1.999] {
                let expected = (f64::from(x) * 2f64.powi(n)) as f32;
                let actual = isa.dispatch(Scaled(x, n as f32));
                assert!(same(actual, expected), "{}: {x} * 2^{n} is {actual:e}, not {expected:e}", isa.name());
            }
        }
    }
}

/// Loads `from.len()` values, stores as many into `to`, and returns the loaded lanes.
struct Partial<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Partial<'_> {
    type Output = [f32; MAX_LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        assert!(self.to.len() >= self.from.len());
        // SAFETY: `from` and `to` hold `from.len()` values.
        unsafe {
            let v = s.load_partial(self.from.as_ptr(), self.from.len());
            s.store_partial(self.to.as_mut_ptr(), self.from.len(), v);
            s.to_array(v)
        }
    }
}

#[test]
fn partial_loads_and_stores_touch_the_first_values_only() {
    for isa in Isa::available() {
        for n in 0..=isa.lanes() {
            // As long as what is read and no longer, for the sanitizer's sake.
            let from: Box<[f32]> = (1..=n).map(|i| i as f32).collect();
            let mut to = vec![7.0; n + 2];
            let lanes = isa.dispatch(Partial { from: &from, to: &mut to });
            assert_eq!(lanes[..n], from[..], "{} {n}", isa.name());
            assert!(lanes[n..isa.lanes()].iter().all(|&x| x == 0.0), "{} {n}: {lanes:?}", isa.name());
            assert_eq!((&to[..n], &to[n..]), (&from[..], &[7.0, 7.0][..]), "{} {n}", isa.name());
        }
    }
}

struct Across;

impl Kernel for Across {
    type Output = ([[f32; MAX_LANES]; 2], f32, f32, [f32; MAX_LANES]);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let even: [f32; MAX_LANES] = std::array::from_fn(|i| 2.0 * i as f32);
        let odd: [f32; MAX_LANES] = std::array::from_fn(|i| 2.0 * i as f32 + 1.0);
        // SAFETY: the arrays hold MAX_LANES values, as many as any vector.
        let (a, b) = unsafe { (s.load(even.as_ptr()), s.load(odd.as_ptr())) };
        let (low, high) = s.interleave(a, b);
        let table: [f32; 32] = std::array::from_fn(|i| 100.0 + i as f32);
        let found = s.to_array(s.lookup(&table, b));
        ([s.to_array(low), s.to_array(high)], s.sum(b), s.max_lane(s.neg(b)), found)
    }
}

#[test]
fn operations_across_lanes() {
    for isa in Isa::available() {
        let lanes = isa.lanes();
        let ([low, high], sum, largest, found) = isa.dispatch(Across);
        let looked_up: Vec<f32> = (0..lanes).map(|i| 101.0 + 2.0 * i as f32).collect();
        assert_eq!(found[..lanes], looked_up[..], "{}", isa.name());
        let interleaved: Vec<f32> = low[..lanes].iter().chain(&high[..lanes]).copied().collect();
        let expected: Vec<f32> = (0..2 * lanes).map(|i| i as f32).collect();
        assert_eq!(interleaved, expected, "{}", isa.name());
        assert_eq!((sum, largest), ((lanes * lanes) as f32, -1.0), "{}", isa.name());
    }
}

/// The bytes as halves, signed bytes, nibbles and entries of a table.
struct Stored<'a>(&'a [u8; 2 * MAX_LANES], &'a [f32; 16]);

impl Kernel for Stored<'_> {
    type Output = [[f32; MAX_LANES]; 6];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let p = self.0.as_ptr();
        // SAFETY: there are bytes for the widest vector of halves.
        let ([a, b], [c, d], half, byte) =
            unsafe { (s.load_nibbles(p), s.lookup_nibbles(p, self.1), s.load_f16(p), s.load_i8(p)) };
        [half, byte, a, b, c, d].map(|v| s.to_array(v))
    }
}

#[test]
fn numbers_stored_small_are_read_exactly() {
    let table: [f32; 16] = std::array::from_fn(|i| (i * i) as f32 - 50.0);
    // All halves but infinities and NaN, and with them all bytes.
    let halves: Vec<u16> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00).collect();
    for chunk in halves.chunks(MAX_LANES) {
        let mut bytes = [0; 2 * MAX_LANES];
        for (pair, bits) in bytes.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&bits.to_ne_bytes());
        }
        for isa in Isa::available() {
            let [half, byte, low, high, from_low, from_high] = isa.dispatch(Stored(&bytes, &table));
            for i in 0..isa.lanes().min(chunk.len()) {
                let (bits, stored) = (chunk[i], bytes[i]);
                let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
                let magnitude =
                    if exponent == 0 { fraction * 2f32.powi(-14) } else { (1.0 + fraction) * 2f32.powi(exponent - 15) };
                let value = if bits & 0x8000 == 0 { magnitude } else { -magnitude };
                assert_eq!(half[i].to_bits(), value.to_bits(), "{} {bits:#06x}", isa.name());
                assert_eq!(byte[i], f32::from(stored as i8), "{} {stored}", isa.name());
                let (l, h) = (stored & 15, stored >> 4);
                assert_eq!((low[i], high[i]), (f32::from(l), f32::from(h)), "{} {stored}", isa.name());
                let entries = (table[usize::from(l)], table[usize::from(h)]);
                assert_eq!((from_low[i], from_high[i]), entries, "{} {stored}", isa.name());
            }
        }
    }
}

#[test]
fn the_fastest_instruction_set_is_the_last_available() {
    assert_eq!(Isa::available().last(), Some(&Isa::detect()));
    assert_eq!(Isa::available()[0].name(), "scalar");
    if cfg!(target_arch = "aarch64") {
        assert_eq!(Isa::detect().name(), "neon");
    }
}

/// Pairs multiplied and values rounded, with the instructions for that if there are any.
struct InBf16<'a>([&'a [f32; MAX_LANES]; 4]);

impl Kernel for InBf16<'_> {
    type Output = ([f32; MAX_LANES], [u16; MAX_LANES]);

    fn run<S: Simd>(self, s: S) -> Self::Output {
        struct Inner<'a>([&'a [f32; MAX_LANES]; 4]);
        impl Kernel for Inner<'_> {
            type Output = ([f32; MAX_LANES], [u16; MAX_LANES]);
            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> Self::Output {
                // SAFETY: the arrays hold MAX_LANES values, as many as any vector.
                let [a, b, c, x] = self.0.map(|values| unsafe { s.load(values.as_ptr()) });
                let mut rounded = [0; MAX_LANES];
                // SAFETY: as above.
                unsafe { s.store_bf16(rounded.as_mut_ptr(), x) };
                (s.to_array(s.dot_pairs(a, b, c)), rounded)
            }
        }
        s.call_dots(Inner(self.0))
    }
}

#[test]
fn pairs_in_bf16_have_the_same_bits_on_every_instruction_set() {
    let mut random = common::Random::new(5);
    let upper = |x: f32| x.to_bits() >> 16;
    for round in 0..2000 {
        let mut numbers = || common::all_in_bf16(&random.values(2 * MAX_LANES));
        let (left, right) = (numbers(), numbers());
        let pairs = |numbers: &[f32]| -> [f32; MAX_LANES] {
            std::array::from_fn(|i| f32::from_bits(upper(numbers[2 * i]) | upper(numbers[2 * i + 1]) << 16))
        };
        let given = random.values(2 * MAX_LANES);
        let (mut c, mut x) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        c.copy_from_slice(&given[..MAX_LANES]);
        x.copy_from_slice(&given[MAX_LANES..]);
        if round == 0 {
            x[..3].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        }
        for isa in Isa::available() {
            let (sums, rounded) = isa.dispatch(InBf16([&pairs(&left), &pairs(&right), &c, &x]));
            for i in 0..isa.lanes() {
                let product = |j: usize| left[j] * right[j];
                let sum = product(2 * i) + (product(2 * i + 1) + c[i]);
                assert_eq!(sums[i].to_bits(), sum.to_bits(), "{} lane {i}", isa.name());
                let back = f32::from_bits(u32::from(rounded[i]) << 16);
                let expected = if x[i].is_finite() { common::in_bf16(x[i]) } else { x[i] };
                assert!(back == expected || back.is_nan() && expected.is_nan(), "{}: {}", isa.name(), x[i]);
            }
        }
    }
}
