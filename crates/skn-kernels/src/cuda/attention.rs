//! Attention inside each sequence.

use candle_core::{Error, Result, Tensor, bail};

use super::launch::{self, Launch, Made, warps};
use super::node::of_three;
use super::rows::rows_on;
use super::run::nothing;
use crate::attention::AttentionForm;
use crate::mask::Dropout;
use crate::packing::RowSelection;

/// Threads of a block: four warps.
const THREADS: u32 = 128;

const WARPS: usize = 4;

/// A kernel for heads of up to so many numbers: narrow ones don't pay the registers of wide ones.
struct Kernel {
    name: &'static str,
    /// Rows of queries, or keys, that a block works on.
    tile: usize,
    /// Bytes of shared memory.
    shared: u32,
}

/// What the kernels of one width are called.
struct Names {
    width: usize,
    forward: &'static str,
    of_queries: &'static str,
    of_keys: &'static str,
}

/// Wider heads are composed of candle's operations.
const WIDTHS: [Names; 4] = [
    Names {
        width: 32,
        forward: "attention_32",
        of_queries: "attention_gradient_queries_32",
        of_keys: "attention_gradient_keys_32",
    },
    Names {
        width: 64,
        forward: "attention_64",
        of_queries: "attention_gradient_queries_64",
        of_keys: "attention_gradient_keys_64",
    },
    Names {
        width: 128,
        forward: "attention_128",
        of_queries: "attention_gradient_queries_128",
        of_keys: "attention_gradient_keys_128",
    },
    Names {
        width: 256,
        forward: "attention_256",
        of_queries: "attention_gradient_queries_256",
        of_keys: "attention_gradient_keys_256",
    },
];

impl Names {
    fn of(head_width: usize) -> Option<&'static Self> {
        WIDTHS.iter().find(|names| names.width >= head_width)
    }

    /// A kernel whose shared memory has `tables` tiles of rows and so many rows `beside` them, each four floats wider than a
    /// head, the probabilities of each lane and row of a warp, and `more` floats.
    fn kernel(&self, name: &'static str, tile: usize, [tables, beside, more]: [usize; 3]) -> Kernel {
        let rows = tables * tile + beside;
        let floats = rows * (self.width + 4) + THREADS as usize * (tile / WARPS + 1) + more;
        Kernel { name, tile, shared: 4 * floats as u32 }
    }

    fn forward(&self) -> Kernel {
        self.kernel(self.forward, if self.width <= 128 { 32 } else { 16 }, [1, 32, 0])
    }

    fn of_queries(&self) -> Kernel {
        self.kernel(self.of_queries, if self.width <= 64 { 32 } else { 16 }, [2, 32, 0])
    }

    fn of_keys(&self) -> Kernel {
        let (tile, beside) = if self.width <= 64 { (32, 64) } else { (16, 32) };
        self.kernel(self.of_keys, tile, [2, beside, 32])
    }
}

/// What a batch asks, beside queries, keys and values.
struct Asked {
    queries: RowSelection,
    form: AttentionForm,
    dropout: Option<Dropout>,
    names: &'static Names,
}

/// See [`attention`](crate::attention()).
pub(super) fn forward(
    [q, k, v]: [&Tensor; 3],
    queries: &RowSelection,
    form: &AttentionForm,
    dropout: Option<&Dropout>,
    rounded: bool,
) -> Result<Tensor> {
    if q.elem_count() == 0 {
        let made = Made::nothing(q.shape(), q.device())?;
        return of_three("attention", [q, k, v], made, |inputs, _, _| nothing(inputs));
    }
    let Some(names) = Names::of(form.head_width) else {
        return crate::composed::attention(q, k, v, queries.packing(), queries, form, dropout);
    };
    if let Some(dropout) = dropout {
        dropout.check_keys(queries)?;
    }
    let asked = Asked { queries: queries.clone(), form: *form, dropout: dropout.cloned(), names };
    let kernel = names.forward();
    let tiles = asked.query_tiles(&kernel, q)?;
    let wanted = [q, k, v].map(Tensor::track_op);
    let launch = kernel
        .launch(tiles, form.heads)?
        .output_rounded_if(rounded && wanted == [false; 3], q.shape())
        .output((queries.len(), form.heads))
        .tensor(q)?
        .tensor(k)?
        .tensor(v)?;
    let [whole, rounded, log_sums] = asked.with(launch, q, tiles)?.run::<3>(q.device())?;
    let (Some(made), Some(log_sums)) = (whole.or(rounded), log_sums) else {
        bail!("attention: expected a result");
    };
    let log_sums = log_sums.tensor();
    of_three("attention", [q, k, v], made, move |inputs, result, gradient| {
        asked.gradients(inputs, result, gradient, &log_sums, wanted)
    })
}

impl Kernel {
    /// A block for each tile and head.
    fn launch(&self, tiles: &Tensor, heads: usize) -> Result<Launch> {
        Ok(Launch::new(self.name, [tiles.dim(0)? as u32, heads as u32, 1], THREADS).shared(self.shared))
    }
}

impl Asked {
    fn query_tiles<'a>(&'a self, kernel: &Kernel, q: &Tensor) -> Result<&'a Tensor> {
        rows_on(&self.queries, q.device())?.query_tiles(&self.queries, kernel.tile, q.device())
    }

    fn key_tiles<'a>(&'a self, kernel: &Kernel, q: &Tensor) -> Result<&'a Tensor> {
        rows_on(&self.queries, q.device())?.key_tiles(&self.queries, kernel.tile, q.device())
    }

    /// The arguments that say who asks whom, and how.
    fn with(&self, launch: Launch, q: &Tensor, tiles: &Tensor) -> Result<Launch> {
        let rows = rows_on(&self.queries, q.device())?;
        let AttentionForm { heads, key_value_heads, head_width, scale, soft_cap, sees } = self.form;
        // All that there are: more than a sequence has.
        let all = u32::MAX as usize;
        let limit = |limit: Option<usize>| limit.map_or(all, |limit| limit.min(all));
        let launch = launch
            .tensor(&rows.starts)?
            .tensor(&rows.asked)?
            .tensor(&rows.position)?
            .tensor(tiles)?
            .u32(heads)?
            .u32(key_value_heads)?
            .u32(head_width)?
            .f32(scale)
            .f32(soft_cap.unwrap_or(0.0))
            .u32(limit(sees.before))?
            .u32(limit(sees.after))?;
        match &self.dropout {
            None => Ok(launch.tensor_if(None)?.u32(0)?.f32(1.0)),
            Some(dropout) => {
                let launch = launch.tensor(dropout.keys_on(q.device())?)?;
                Ok(launch.u32(dropout.threshold() as usize)?.f32(dropout.factor()))
            }
        }
    }

    fn gradients(
        &self,
        [q, k, v]: [&Tensor; 3],
        result: &Tensor,
        gradient: &Tensor,
        log_sums: &Tensor,
        wanted: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let AttentionForm { heads, key_value_heads, head_width, .. } = self.form;
        let (device, queries) = (q.device(), self.queries.len());
        let products = Launch::new("attention_row_products", warps(queries * heads), launch::THREADS)
            .output((queries, heads))
            .tensor(result)?
            .tensor(gradient)?
            .u32(queries)?
            .u32(heads)?
            .u32(head_width)?
            .run_one(device)?
            .tensor();
        let inputs = |launch: Launch| {
            launch.tensor(q)?.tensor(k)?.tensor(v)?.tensor(gradient)?.tensor(log_sums)?.tensor(&products)
        };
        let of_q = wanted[0].then(|| {
            let kernel = self.names.of_queries();
            let tiles = self.query_tiles(&kernel, q)?;
            let launch = inputs(kernel.launch(tiles, heads)?.output(q.shape()))?;
            Ok::<_, Error>(self.with(launch, q, tiles)?.run_one(device)?.tensor())
        });
        let [of_k, of_v] = if wanted[1] || wanted[2] {
            let kernel = self.names.of_keys();
            let tiles = self.key_tiles(&kernel, q)?;
            let launch = kernel.launch(tiles, key_value_heads)?.output(k.shape()).output(v.shape());
            let made = self.with(inputs(launch)?, q, tiles)?.run::<2>(device)?;
            made.map(|made| made.map(Made::tensor))
        } else {
            [None, None]
        };
        Ok([of_q.transpose()?, of_k, of_v])
    }
}
