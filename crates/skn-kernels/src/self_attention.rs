use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::activation::Activation;
use crate::attention::AttentionForm;
use crate::calls::{attention_for, room_of};
use crate::cpu::Absorbed;
use crate::linear::Linear;
use crate::mask::Dropout;
use crate::packing::RowSelection;
use crate::precision::Precision;
use crate::rms_norm::RmsNorm;
use crate::rotary::Rotary;

/// Self-attention of several heads with its query, key and value layers; see [`attention`](crate::attention()). Queries and keys may be normalised
/// ([`Self::with_norms`]) and then turned ([`Self::with_rotary`]).
///
/// Where one row of each sequence asks, as in the last layer of a classifier, no key and no value is computed: with
/// `q_h` the query of a head and `W_h`, `b_h` the head's rows of a layer,
///
/// ```text
/// q_h . (K_h x_j + k_h) = (K_h^T q_h) . x_j + a number that is the same for all j, and falls out of the softmax;
/// sum over j of p_j (V_h x_j + v_h) = V_h (sum over j of p_j x_j) + v_h, because the p_j sum to 1.
/// ```
///
/// So the rows themselves are keys and values, and the two products are made for the asking rows alone. That is the same
/// function but for the order of its sums, and it is differentiable in everything; it is done on the CPU
///
/// - where the rows are [`Packing::first_rows(1)`](crate::Packing::first_rows) or
///   [`Packing::last_rows(1)`](crate::Packing::last_rows), whatever of their sequence they see;
/// - without dropout, after which the `p_j` don't sum to 1;
/// - where a query layer and a key layer have as many outputs as inputs. Grouped heads share small matrices, whose products
///   with the rows are too cheap to be spared;
/// - without norms and rotation: then a key is no linear function of its row, or another one at each position;
/// - without a soft cap, from which nothing falls out.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    form: AttentionForm,
    /// Of queries and of keys.
    norms: Option<[RmsNorm; 2]>,
    rotary: Option<Rotary>,
    /// If keys and values can be absorbed.
    absorbed: Option<Arc<Absorbed>>,
}

impl SelfAttention {
    /// Self-attention of a form: the query layer is `[heads * head width, hidden]`, the others are
    /// `[key/value heads * head width, hidden]`.
    ///
    /// # Errors
    /// If the form is none ([`AttentionForm`]), or a layer has another shape.
    pub fn new(query: Linear, key: Linear, value: Linear, form: AttentionForm) -> Result<Self> {
        form.check()?;
        let hidden = query.in_features();
        let (of_query, of_key) = ([form.query_width(), hidden], [form.key_width(), hidden]);
        for (name, layer, expected) in
            [("query", &query, of_query), ("key", &key, of_key), ("value", &value, of_key)]
        {
            let found = [layer.out_features(), layer.in_features()];
            if found != expected {
                bail!("self-attention: expected a {name} weight {expected:?}, found {found:?}");
            }
        }
        let mut new = Self { query, key, value, form, norms: None, rotary: None, absorbed: None };
        new.absorb();
        Ok(new)
    }

    /// The same, with norms of queries and of keys, each as wide as a head, for each head by itself, or as wide as all heads.
    ///
    /// # Errors
    /// If one has another width.
    pub fn with_norms(mut self, query: RmsNorm, key: RmsNorm) -> Result<Self> {
        let (width, form) = (self.form.head_width, &self.form);
        for (name, norm, all) in [("query", &query, form.query_width()), ("key", &key, form.key_width())] {
            if ![width, all].contains(&norm.width()) {
                bail!(
                    "self-attention: expected a {name} norm of width {width} or {all}, found {}",
                    norm.width()
                );
            }
        }
        self.norms = Some([query, key]);
        self.absorb();
        Ok(self)
    }

    /// The same, queries and keys turned by their positions, after their norms if there are any.
    ///
    /// # Errors
    /// If it turns heads of another width.
    pub fn with_rotary(mut self, rotary: Rotary) -> Result<Self> {
        if rotary.head_width() != self.form.head_width {
            bail!(
                "self-attention: expected rotary positions of heads of {}, found {}",
                self.form.head_width,
                rotary.head_width()
            );
        }
        self.rotary = Some(rotary);
        self.absorb();
        Ok(self)
    }

    /// The same, frozen weights multiplied in another precision.
    pub fn set_precision(&mut self, precision: Precision) {
        for layer in [&mut self.query, &mut self.key, &mut self.value] {
            layer.set_precision(precision);
        }
        self.absorb();
    }

    /// Makes ready to absorb keys and values as they are now, where that can be done.
    fn absorb(&mut self) {
        let hidden = self.query.in_features();
        let whole = self.form.query_width() == hidden && self.form.key_width() == hidden;
        let linear = self.norms.is_none() && self.rotary.is_none() && self.form.soft_cap.is_none();
        self.absorbed =
            (whole && linear).then(|| Arc::new(Absorbed::new(&self.key, &self.value, &self.form)));
    }

    /// Packs frozen weights for passes without a gradient now instead of at the first of them: those for one asking row
    /// of each sequence, or those for more.
    ///
    /// # Errors
    /// If a weight can't be read.
    pub fn pack(&self, one_each: bool) -> Result<()> {
        self.query.pack()?;
        if let Some(absorbed) = self.absorbed.as_ref().filter(|_| one_each && self.key.is_packed()) {
            return absorbed.pack();
        }
        self.key.pack()?;
        self.value.pack()
    }

    /// Bytes of memory that its frozen weights take now; see [`Linear::weight_bytes`].
    pub fn weight_bytes(&self) -> usize {
        let layers = [&self.query, &self.key, &self.value].map(Linear::weight_bytes).iter().sum::<usize>();
        layers + self.absorbed.as_ref().map_or(0, |absorbed| absorbed.bytes())
    }

    /// What the rows `queries` of the batch `x` `[all rows, hidden]` attend to: `[queries, heads * head width]`. `asking`
    /// are these rows of `x`, `[queries, hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit together, a sequence has no key for its dropout, or a tensor is not f32.
    pub fn forward(
        &self,
        x: &Tensor,
        asking: &Tensor,
        queries: &RowSelection,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        self.forward_for(x, asking, queries, dropout, None)
    }

    /// The same for a layer that reads it, and nobody else does: it may be rounded; see [`Linear::forward_for`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_for(
        &self,
        x: &Tensor,
        asking: &Tensor,
        queries: &RowSelection,
        dropout: Option<&Dropout>,
        reader: Option<&Linear>,
    ) -> Result<Tensor> {
        let (rows, hidden) = (queries.packing().rows(), self.query.in_features());
        if x.dims() != [rows, hidden] || asking.dims() != [queries.len(), hidden] {
            bail!(
                "self-attention: expected [{rows}, {hidden}] and {} queries, found {:?} and {:?}",
                queries.len(),
                x.dims(),
                asking.dims()
            );
        }
        // Three layers read the same rows, if all read them so.
        let layers = [&self.query, &self.key, &self.value];
        let read =
            if layers.into_iter().all(Linear::reads_rounded) { self.key.rounded(x)? } else { x.clone() };
        let asking = if asking.id() == x.id() { &read } else { asking };
        let query = self.query.forward(asking, Activation::Identity)?;
        let absorbs = room_of(x).absorbs();
        let alone = dropout.is_none() && queries.is_one_each() && absorbs;
        if let Some(absorbed) = self.absorbed.as_ref().filter(|_| alone) {
            return absorbed.forward(&query, x, queries, &self.form);
        }
        let packing = queries.packing();
        let (mut query, mut key) = (query, self.key.forward(&read, Activation::Identity)?);
        if let Some([of_query, of_key]) = &self.norms {
            query = of_query.forward_heads(&query, self.form.query_width() / of_query.width())?;
            key = of_key.forward_heads(&key, self.form.key_width() / of_key.width())?;
        }
        if let Some(rotary) = &self.rotary {
            query = rotary.apply(&query, queries)?;
            key = rotary.apply(&key, &packing.all_rows())?;
        }
        let value = self.value.forward(&read, Activation::Identity)?;
        attention_for([&query, &key, &value], packing, queries, &self.form, dropout, reader)
    }
}
