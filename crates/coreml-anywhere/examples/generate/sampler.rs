//! Chooses the next token.

/// Draws a token, the same ones for the same seed.
pub(crate) struct Sampler {
    temperature: f32,
    top: usize,
    state: u64,
}

impl Sampler {
    /// With a temperature of 0 always the likeliest; else one of the `top` likeliest, the flatter the higher it is.
    pub(crate) fn new(temperature: f32, top: usize, seed: u64) -> Self {
        Self { temperature, top: top.max(1), state: seed }
    }

    pub(crate) fn draw(&mut self, logits: &[f32]) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // The first of several that are equally likely.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let Some(&likeliest) = order.first() else { return 0 };
        if self.temperature <= 0.0 {
            return likeliest as u32;
        }
        order.truncate(self.top);
        let chance = self.number();
        let weight = |token: usize| f64::from((logits[token] - logits[likeliest]) / self.temperature).exp();
        let sum: f64 = order.iter().map(|&token| weight(token)).sum();
        let mut left = chance * sum;
        for &token in &order {
            left -= weight(token);
            if left < 0.0 {
                return token as u32;
            }
        }
        likeliest as u32
    }

    /// A number from 0 to below 1: SplitMix64.
    fn number(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 1e-3, 5f32.ln()];
        let mut counts = [0; 5];
        let mut sampler = Sampler::new(1.0, 3, 7);
        for _ in 0..80_000 {
            counts[sampler.draw(&logits) as usize] += 1;
        }
        // Of the three likeliest, with weights 5, 2 and 1.001.
        assert_eq!((counts[0], counts[2]), (0, 0));
        for (token, share) in [(4, 5.0 / 8.0), (1, 2.0 / 8.0), (3, 1.0 / 8.0)] {
            let found = f64::from(counts[token]) / 80_000.0;
            assert!((found - share).abs() < 0.01, "token {token}: {found}, not {share}");
        }
        // The same seed, the same tokens; another, others.
        let drawn = |seed| {
            let mut sampler = Sampler::new(1.0, 3, seed);
            (0..50).map(|_| sampler.draw(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(Sampler::new(0.0, 3, 1).draw(&logits), 4);
    }
}
