//! How a model's queries and keys are rotated by their position (Su et al., 2021), as `config.json` says.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::error::Result;

/// What transformers takes where nothing is said.
pub(super) const USUAL_THETA: f64 = 10_000.0;

/// The settings of one kind of layers: newer files have them in `rope_parameters`, older ones in `rope_scaling` and beside it.
pub(super) struct Rotary<'a> {
    fields: &'a Fields<'a>,
    /// The object that the settings are in, and its name.
    settings: Option<(&'a Map<String, Value>, String)>,
    theta: f64,
    partial: f64,
}

impl<'a> Rotary<'a> {
    /// Those of a model all of whose layers rotate alike. `theta` and `partial` are names of older fields beside them, and what
    /// is taken where nothing is said.
    pub(super) fn of_all(
        fields: &'a Fields<'a>,
        (theta, usual_theta): (&str, f64),
        (partial, usual_partial): (&str, f64),
    ) -> Result<Self> {
        // As transformers 5: what older files say of scaling wins.
        let settings = ["rope_scaling", "rope_parameters"].into_iter();
        let mut settings = settings.filter_map(|name| Some((fields.object(name)?, name.to_owned())));
        let settings = settings.find(|(object, _)| !object.is_empty());
        let theta = fields.number_or(theta, THETA, usual_theta)?;
        let partial = fields.number_or(partial, 0.0..=1.0, usual_partial)?;
        Self { fields, settings, theta, partial }.refined()
    }

    /// Those of the layers of a kind (`full_attention`, `sliding_attention`). `theta` is the name of an older field beside
    /// them, and what is taken where nothing is said; `scaled` says whether `rope_scaling` is about them.
    pub(super) fn of_kind(
        fields: &'a Fields<'a>,
        kind: &str,
        (theta, usual): (&str, f64),
        scaled: bool,
    ) -> Result<Self> {
        let newer = fields.object("rope_parameters");
        let newer = newer.and_then(|kinds| kinds.get(kind)?.as_object());
        let newer = newer.map(|settings| (settings, format!("rope_parameters.{kind}")));
        let older = fields.object("rope_scaling").filter(|_| scaled);
        let settings = older.map(|settings| (settings, "rope_scaling".to_owned())).or_else(|| newer.clone());
        let theta = fields.number_or(theta, THETA, usual)?;
        let rotary = Self { fields, settings: newer, theta, partial: 1.0 }.refined()?;
        Ok(Self { settings, ..rotary })
    }

    /// Takes what the settings themselves say.
    fn refined(self) -> Result<Self> {
        let theta = self.number("rope_theta", THETA)?.unwrap_or(self.theta);
        let partial = self.number("partial_rotary_factor", 0.0..=1.0)?.unwrap_or(self.partial);
        Ok(Self { theta, partial, ..self })
    }

    fn number(&self, name: &str, range: std::ops::RangeInclusive<f64>) -> Result<Option<f64>> {
        let Some((settings, place)) = &self.settings else { return Ok(None) };
        self.fields.number_in(settings, place, name, range)
    }

    fn needed(&self, name: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let place = self.settings.as_ref().map_or("rope_parameters", |(_, place)| place);
        self.number(name, range)?
            .ok_or_else(|| self.fields.error(&format!("{place}.{name}"), expected, "nothing"))
    }

    /// The inverse frequencies of the pairs of a head's first numbers; transformers keeps them as f32.
    pub(super) fn inverse_frequencies(&self, head_width: usize) -> Result<Arc<[f64]>> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of it, cut to a whole number"
        )]
        let width = (head_width as f64 * self.partial) as usize;
        if !width.is_multiple_of(2) {
            let expected = "an even number of rotated numbers in a head";
            return Err(self.fields.error("(width of a head)", expected, width));
        }
        let plain = (0..width / 2).map(|pair| 1.0 / self.theta.powf(2.0 * pair as f64 / width as f64));
        let plain: Vec<f64> = plain.map(as_f32).collect();
        let kind = self.kind();
        let scaled = match kind.as_str() {
            "default" => plain,
            "linear" => {
                let factor = self.needed("factor", FACTOR)?;
                plain.into_iter().map(|frequency| frequency / factor).collect()
            }
            "llama3" => self.llama3(plain)?,
            _ => {
                let place = self.settings.as_ref().map_or("rope_parameters", |(_, place)| place);
                let expected = "default, linear or llama3: other ways to rotate are not computed here";
                return Err(self.fields.error(&format!("{place}.rope_type"), expected, kind));
            }
        };
        Ok(scaled.into_iter().map(as_f32).collect())
    }

    /// `rope_type`, which older files call `type`.
    fn kind(&self) -> String {
        let of = |name: &str| self.settings.as_ref()?.0.get(name).filter(|value| !value.is_null());
        match of("rope_type").or_else(|| of("type")) {
            None => "default".to_owned(),
            Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        }
    }

    /// Llama 3.1's: low frequencies are divided, high ones stay, and between them is a ramp.
    fn llama3(&self, plain: Vec<f64>) -> Result<Vec<f64>> {
        let factor = self.needed("factor", FACTOR)?;
        let low = self.needed("low_freq_factor", FACTOR)?;
        let high = self.needed("high_freq_factor", FACTOR)?;
        let length = self.needed("original_max_position_embeddings", 1.0..=1e9)?;
        if high <= low {
            let expected = format!("more than low_freq_factor {low}");
            return Err(self.fields.error("rope_parameters.high_freq_factor", expected, high));
        }
        let scaled = |frequency: f64| {
            let wave = std::f64::consts::TAU / frequency;
            if wave > length / low {
                frequency / factor
            } else if wave < length / high {
                frequency
            } else {
                let smooth = (length / wave - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        };
        Ok(plain.into_iter().map(scaled).collect())
    }
}

const THETA: std::ops::RangeInclusive<f64> = 1.0..=1e12;
const FACTOR: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

#[expect(clippy::cast_possible_truncation, reason = "it is rounded, as transformers does")]
fn as_f32(frequency: f64) -> f64 {
    f64::from(frequency as f32)
}
