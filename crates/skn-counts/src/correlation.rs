use crate::bit_count::{LANES, Tile};
use crate::error::Result;
use crate::fire_bits::{FireBits, PositionBits};

/// How far pairs of neurons of one layer fire for the same texts: the phi coefficient, Pearson's r of two yes-or-no values,
/// without its sign. Pairs in which one never or always fires have none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Correlation {
    /// The sum over pairs of selected neurons, and their number.
    pub among: (f64, u64),
    /// The sum over pairs of a selected and another neuron, and their number.
    pub with_others: (f64, u64),
    /// The largest of the latter.
    pub most: f64,
}

impl FireBits {
    /// Compares the selected neurons of a layer with one another and with the others. `neurons` are those that are compared,
    /// each with the position where it is read, and whether it is selected.
    ///
    /// # Errors
    /// If bits can't be read.
    pub fn correlation(&self, layer: usize, neurons: &[(usize, usize, bool)]) -> Result<Correlation> {
        let mut rows = vec![Vec::new(); neurons.len()];
        for position in 0..self.positions() {
            if !neurons.iter().any(|neuron| neuron.1 == position) {
                continue;
            }
            let bits = self.position(layer, position)?;
            for (row, neuron) in rows.iter_mut().zip(neurons).filter(|(_, neuron)| neuron.1 == position) {
                *row = bits.row(neuron.0).to_vec();
            }
        }
        let texts = self.texts() as f64;
        let fires: Vec<f64> =
            rows.iter().map(|row| row.iter().map(|word| word.count_ones()).sum::<u32>().into()).collect();
        let spread = |place: usize| fires[place] * (texts - fires[place]);
        let compared: Vec<usize> = (0..rows.len()).filter(|&place| spread(place) > 0.0).collect();
        let selected: Vec<usize> = compared.iter().copied().filter(|&place| neurons[place].2).collect();
        let all = PositionBits::of_rows(&rows);
        let mut found = Correlation::default();
        for places in compared.chunks(LANES) {
            let mut number = 0;
            Tile::new(&all, places).each(selected.iter().map(|&place| &rows[place][..]), |both| {
                let first = selected[number];
                number += 1;
                for (&second, &both) in places.iter().zip(both) {
                    let phi = (texts * both as f64 - fires[first] * fires[second]).abs()
                        / (spread(first) * spread(second)).sqrt();
                    if !neurons[second].2 {
                        found.with_others = (found.with_others.0 + phi, found.with_others.1 + 1);
                        found.most = found.most.max(phi);
                    } else if first < second {
                        found.among = (found.among.0 + phi, found.among.1 + 1);
                    }
                }
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fire_bits::tests::{counted, fire_file};

    #[test]
    fn pairs_are_pearson_s() {
        let labels: Vec<usize> = (0..100).map(|text| text % 2).collect();
        let fires = |_: usize, position: usize, neuron: usize, text: usize| match (position, neuron) {
            (0, 3) => true, // never compared: it always fires
            (_, neuron) => (text * (neuron + 3) + position) % 11 < 5,
        };
        let dims = [1, 2, 50];
        let counts = counted(dims, 2, &labels, &fires);
        let bits = FireBits::read(fire_file(dims, &labels, &fires), &counts).unwrap();
        let neurons: Vec<(usize, usize, bool)> =
            (0..50).map(|neuron| (neuron, usize::from(neuron % 3 == 1), neuron < 8)).collect();
        let found = bits.correlation(0, &neurons).unwrap();
        let values = |&(neuron, position, _): &(usize, usize, bool)| -> Vec<f64> {
            (0..100).map(|text| f64::from(u8::from(fires(0, position, neuron, text)))).collect()
        };
        let (mut among, mut others, mut most) = ((0.0, 0u64), (0.0, 0u64), 0.0f64);
        for (place, first) in neurons.iter().enumerate().filter(|(_, neuron)| neuron.2 && neuron.0 != 3) {
            for (other, second) in neurons.iter().enumerate().filter(|(_, neuron)| neuron.0 != 3) {
                let (a, b) = (values(first), values(second));
                let (ma, mb) = (a.iter().sum::<f64>() / 100.0, b.iter().sum::<f64>() / 100.0);
                let dot = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
                    x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
                };
                let phi = (dot(&a, ma, &b, mb) / (dot(&a, ma, &a, ma) * dot(&b, mb, &b, mb)).sqrt()).abs();
                // One of them always or never fires.
                if !phi.is_finite() {
                    continue;
                }
                if !second.2 {
                    (others, most) = ((others.0 + phi, others.1 + 1), most.max(phi));
                } else if place < other {
                    among = (among.0 + phi, among.1 + 1);
                }
            }
        }
        assert_eq!((found.among.1, found.with_others.1), (among.1, others.1));
        for (found, expected) in
            [(found.among.0, among.0), (found.with_others.0, others.0), (found.most, most)]
        {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }
}
