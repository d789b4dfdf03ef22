use skn_random::{Key, Rng};

/// The noise of one text at one layer.
pub(crate) enum TextNoise<'a> {
    Given { alpha: f64, row: &'a [f32] },
    Drawn(Box<Drawn>),
}

/// Noise that is drawn as positions ask for it.
pub(crate) struct Drawn {
    alpha: f64,
    per_token: bool,
    rng: Rng,
    /// How many rows have been drawn; `row` is the last of them.
    drawn: u64,
    row: Vec<f64>,
}

impl TextNoise<'_> {
    /// `alpha` times what the generator of `key` draws for layers of this width.
    pub(crate) fn drawn(alpha: f64, key: Key, per_token: bool, width: usize) -> Self {
        Self::Drawn(Box::new(Drawn { alpha, per_token, rng: key.rng(), drawn: 0, row: vec![0.0; width] }))
    }

    /// Writes the noise of `neurons` at a position into `row`. Positions must not descend.
    pub(crate) fn at(&mut self, position: u32, neurons: &[u32], row: &mut [f32]) {
        match self {
            Self::Given { alpha, row: noise } => {
                for &neuron in neurons {
                    row[neuron as usize] = (*alpha * f64::from(noise[neuron as usize])) as f32;
                }
            }
            Self::Drawn(drawn) => {
                drawn.advance(position);
                for &neuron in neurons {
                    row[neuron as usize] = (drawn.alpha * drawn.row[neuron as usize]) as f32;
                }
            }
        }
    }
}

impl Drawn {
    /// Draws up to the row of a position: one number for every neuron, edited or not, so that a neuron's noise does
    /// not depend on what else is edited.
    fn advance(&mut self, position: u32) {
        let wanted = if self.per_token { u64::from(position) + 1 } else { 1 };
        while self.drawn < wanted {
            self.row.fill_with(|| self.rng.normal());
            self.drawn += 1;
        }
    }
}
