//! Each operation of `skn-kernels` on a device next to the CPU, on fresh random numbers: values and gradients.

use candle_core::{Device, Result, Tensor, Var};
use skn_kernels::{
    Activation, AttentionForm, Backend, Dropout, LayerNorm, Linear, Packing, Precision, RmsNorm, Rotary,
    RowSelection, Sees, SelfAttention, attention, dropout, gated, launches, select_rows, zeros_on,
};
use skn_random::{Key, Purpose};

use crate::difference::{Allowed, Difference};
use crate::table::Table;

/// As the tests of `skn-kernels` allow between an operation and its composition.
const F32: Allowed = Allowed { values: 2e-5, gradients: 5e-5 };
/// As they allow between a product of numbers rounded to bf16 and its composition.
const BF16: Allowed = Allowed { values: 1e-4, gradients: 1e-4 };
/// Where a product's gradient is rounded that is off by f32's rounding: some fall to the other side.
const BF16_TWICE: Allowed = Allowed { values: 1e-4, gradients: 1e-3 };
/// Where the CPU makes products of products in another order, each of rounded numbers.
const BF16_NEAR: Allowed = Allowed { values: 2e-2, gradients: 5e-2 };

/// The same behind a norm, which divides by what rows of a few numbers vary by, and makes as much of its rounding.
const BF16_NORMED: Allowed = Allowed { values: 1e-3, gradients: 1e-2 };

/// Between a product of numbers rounded to tf32 and one in f32.
const TF32: Allowed = Allowed { values: 5e-3, gradients: 5e-3 };

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu];

/// What is done with variables, on whatever device they are.
type Run = dyn Fn(&[Var]) -> Result<Tensor>;

/// The shape of an input, and how far its numbers go from 0.
type Input<'a> = (&'a [usize], f32);

/// An operation at one size, in one form.
struct Case {
    name: String,
    /// The shape of each input, and the reach of its numbers.
    inputs: Vec<(Vec<usize>, f32)>,
    run: Box<Run>,
}

/// An operation with its cases.
struct Operation {
    name: &'static str,
    allowed: Allowed,
    cases: Vec<Case>,
    /// The same in f32, for a device that multiplies in nothing else.
    in_f32: Option<Vec<Case>>,
}

impl Operation {
    fn new(name: &'static str, cases: Vec<Case>) -> Self {
        Self { name, allowed: F32, cases, in_f32: None }
    }

    fn bf16(name: &'static str, allowed: Allowed, cases: impl Fn(Precision) -> Vec<Case>) -> Self {
        let in_f32 = Some(cases(Precision::F32));
        Self { name, allowed, cases: cases(Precision::Bf16), in_f32 }
    }
}

/// Compares them all; `short` leaves out what takes long on one core.
pub(crate) fn check(table: &mut Table, device: &Device, seed: u64, short: bool) {
    for operation in operations(short) {
        let what = format!("{}, {} cases", operation.name, operation.cases.len());
        match compare(&operation.cases, device, seed) {
            Err(error) => table.fail(what, error),
            Ok(found) => {
                let right = found.within(operation.allowed);
                // Of a device that can't multiply in bf16 f32 is expected, of others it would be a precision that got lost.
                let has_none = !Backend::of(device).multiplies_in(Precision::Bf16);
                let as_f32 = operation.in_f32.as_ref().filter(|_| !right && has_none);
                match as_f32.map(|reference| compare_with(&operation.cases, reference, device, seed)) {
                    Some(Ok(in_f32)) if in_f32.within(F32) => {
                        table.check(
                            what,
                            in_f32,
                            format!("{F32}, of the CPU's f32: this device multiplies in f32"),
                            true,
                        );
                    }
                    _ => table.check(what, found, operation.allowed, right),
                }
            }
        }
    }
    if Backend::of(device).multiplies_in(Precision::Tf32) {
        check_tf32(table, device, seed, short);
    }
    for precision in Precision::ALL.into_iter().filter(|&it| Backend::of(device).multiplies_in(it)) {
        check_again(table, device, seed, precision);
    }
}

/// Makes the same product again and again, whose inner side is long enough to be summed up in parts: its bits must not depend on the
/// run. And tells whether the device added the bias in the product's own call.
fn check_again(table: &mut Table, device: &Device, seed: u64, precision: Precision) {
    const TIMES: usize = 5;
    let what = format!("linear, {}, {TIMES} times", precision.name());
    let made = || -> Result<(Vec<Vec<u32>>, u64)> {
        let one = linear_again(precision);
        let variables = variables(&one, device, Key::new(seed, Purpose::Corpus))?;
        let before = launches();
        let found = (0..TIMES).map(|_| {
            let values = (one.run)(&variables)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f32::to_bits).collect())
        });
        Ok((found.collect::<Result<_>>()?, launches() - before))
    };
    match made() {
        Err(error) => table.fail(what, error),
        Ok((found, launched)) => {
            let others = found.iter().filter(|it| **it != found[0]).count();
            table.check(&what, format!("{others} with other bits"), "none", others == 0);
            if Backend::of(device) == Backend::Cuda {
                let found = TIMES as u64 - launched.min(TIMES as u64);
                let (what, biases) =
                    (format!("{what}, biases added by the product"), format!("{found} of {TIMES}"));
                // A real card may have no algorithm for it; the played one says whether it has.
                match Backend::machine(device).is_ok_and(|name| name.contains("played card")) {
                    false => table.tell(what, biases, ""),
                    true => {
                        let without = std::env::var_os("SKN_CARD_WITHOUT_BIASES").is_some();
                        let expected = if without { 0 } else { TIMES as u64 };
                        table.check(what, biases, format!("{expected}"), found == expected);
                    }
                }
            }
        }
    }
}

fn linear_again(precision: Precision) -> Case {
    let [rows, inputs, outputs] = [9, 1537, 68];
    let shapes: [(&[usize], f32); 3] =
        [(&[rows, inputs], 1.0), (&[outputs, inputs], reach(inputs)), (&[outputs], 1.0)];
    case(format!("{rows} x {inputs} x {outputs}"), &shapes, move |variables| {
        let [x, weight, bias] = [0, 1, 2].map(|input| variables[input].as_detached_tensor());
        let layer = Linear::new(weight, Some(bias))?.with_precision(precision);
        layer.forward(&x, Activation::Identity)
    })
}

/// Compares products in tf32, which the CPU has not, with its f32: they must be off by more than f32 is, and not by much more.
fn check_tf32(table: &mut Table, device: &Device, seed: u64, short: bool) {
    let [cases, reference] = [Precision::Tf32, Precision::F32].map(|precision| {
        let mut cases = linear_bf16(short, precision);
        cases.extend(linear_views(precision, FROZEN));
        cases
    });
    let what = format!("linear, tf32, {} cases", cases.len());
    match compare_with(&cases, &reference, device, seed) {
        Err(error) => table.fail(what, error),
        Ok(found) => {
            let right = found.within(TF32) && !found.within(F32);
            table.check(what, found, format!("{TF32}, of the CPU's f32, and not {F32}"), right);
        }
    }
}

/// The largest difference over cases between the device and the CPU.
fn compare(cases: &[Case], device: &Device, seed: u64) -> Result<Difference> {
    compare_with(cases, cases, device, seed)
}

/// The same, of other cases on the CPU, which have the same inputs.
fn compare_with(cases: &[Case], reference: &[Case], device: &Device, seed: u64) -> Result<Difference> {
    let mut worst = Difference::default();
    for (number, (case, reference)) in cases.iter().zip(reference).enumerate() {
        let at = |case: &Case, device: &Device| {
            measure(case, device, Key::new(seed, Purpose::Corpus).step(number as u64))
                .map_err(|error| candle_core::Error::Msg(format!("{}: {error}", case.name)))
        };
        worst.take(&case.name, &at(case, device)?, &at(reference, &Device::Cpu)?);
    }
    Ok(worst)
}

/// A result and the gradients of all inputs.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) values: Tensor,
    /// None of an input that the operation takes as a constant.
    pub(crate) gradients: Vec<Option<Tensor>>,
}

fn measure(case: &Case, device: &Device, key: Key) -> Result<Measured> {
    let variables = variables(case, device, key)?;
    let values = (case.run)(&variables)?;
    // A number that depends on every element in its own way.
    let weights = random(values.dims(), 1.0, device, key.layer(case.inputs.len() as u32))?;
    let gradients = (&values * weights)?.sum_all()?.backward()?;
    let gradients =
        variables.iter().map(|variable| gradients.get(variable).map(|it| it.to_device(&Device::Cpu)));
    let gradients = gradients.map(Option::transpose).collect::<Result<_>>()?;
    Ok(Measured { values: values.detach().to_device(&Device::Cpu)?, gradients })
}

/// The inputs of a case.
fn variables(case: &Case, device: &Device, key: Key) -> Result<Vec<Var>> {
    let variable = |(layer, (shape, reach)): (usize, &(Vec<usize>, f32))| {
        Var::from_tensor(&random(shape, *reach, device, key.layer(layer as u32))?)
    };
    case.inputs.iter().enumerate().map(variable).collect()
}

/// Numbers that go so far from 0.
pub(crate) fn random(shape: &[usize], reach: f32, device: &Device, key: Key) -> Result<Tensor> {
    let (mut rng, count) = (key.rng(), shape.iter().product());
    let next = || ((rng.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0) * reach;
    let values: Vec<f32> = std::iter::repeat_with(next).take(count).collect();
    Tensor::from_vec(values, shape, device)
}

fn operations(short: bool) -> Vec<Operation> {
    vec![
        Operation::new("linear", linear(short)),
        Operation::bf16("linear, bf16", BF16, |precision| linear_bf16(short, precision)),
        Operation::new("linear, views", linear_views(Precision::F32, &[0b001, 0b101, 0b110, 0b111])),
        Operation::bf16("linear, views, bf16", BF16, |precision| linear_views(precision, FROZEN)),
        Operation::new("linear, made for another thread", linear_elsewhere(Precision::F32)),
        Operation::bf16("linear, made for another thread, bf16", BF16, linear_elsewhere),
        Operation::new("two linear layers, gated", linear_gated(short, Precision::F32)),
        Operation::bf16("two linear layers, gated, bf16", BF16_TWICE, |precision| {
            linear_gated(short, precision)
        }),
        Operation::new("FFN without neurons", without_neurons(Precision::F32)),
        Operation::bf16("FFN without neurons, bf16", BF16, without_neurons),
        Operation::new("gated", gated_alone()),
        Operation::new("LayerNorm", layer_norm(short)),
        Operation::new("LayerNorm of a sum, dropout", layer_norm_of_sum(short)),
        Operation::new("LayerNorm of a linear layer and a sum", layer_norm_of_linear(short, Precision::F32)),
        Operation::bf16("LayerNorm of a linear layer and a sum, bf16", BF16_NORMED, |precision| {
            layer_norm_of_linear(short, precision)
        }),
        Operation::new("RmsNorm", rms_norm(short)),
        Operation::new("rotary positions", rotary()),
        Operation::new("attention of encoders", encoder_attention(short)),
        Operation::new("attention in every form", other_attention()),
        Operation::new("attention of long texts", long_attention(short)),
        Operation::new("self-attention, one row asks", one_row(Precision::F32)),
        Operation::bf16("self-attention, one row asks, bf16", BF16_NEAR, one_row),
        Operation::new("self-attention of decoders", decoder_attention()),
        Operation::new("dropout", dropouts(short)),
        Operation::new("rows selected", selected()),
        Operation::new("rows selected, by another thread too", selected_elsewhere()),
    ]
}

fn case(name: String, inputs: &[(&[usize], f32)], run: impl Fn(&[Var]) -> Result<Tensor> + 'static) -> Case {
    let inputs = inputs.iter().map(|(shape, reach)| (shape.to_vec(), *reach)).collect();
    Case { name, inputs, run: Box::new(run) }
}

/// The variable, or its numbers as a constant.
fn trained(variable: &Var, is_trained: bool) -> Tensor {
    if is_trained { variable.as_tensor().clone() } else { variable.as_detached_tensor() }
}

/// So that what comes out of a product is about as large as what went in.
fn reach(inputs: usize) -> f32 {
    (3.0 / inputs.max(1) as f32).sqrt()
}

fn linear(short: bool) -> Vec<Case> {
    let one = |[rows, inputs, outputs]: [usize; 3], mask: usize, activation: Activation| {
        let name = format!("{rows} x {inputs} x {outputs}, {activation:?}, trained {mask:03b}");
        let shapes: [(&[usize], f32); 3] =
            [(&[rows, inputs], 1.0), (&[outputs, inputs], reach(inputs)), (&[outputs], 1.0)];
        case(name, &shapes, move |variables| {
            let [x, weight, bias] = [0, 1, 2].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
            Linear::new(weight, Some(bias))?.forward(&x, activation)
        })
    };
    let mut cases = Vec::new();
    for activation in ACTIVATIONS {
        cases.extend((0..8).map(|mask| one([5, 19, 35], mask, activation)));
        cases.extend([1, 7].map(|mask| one([33, 128, 257], mask, activation)));
    }
    if !short {
        cases.extend([1, 7].map(|mask| one([300, 768, 3072], mask, Activation::Gelu)));
        cases.push(one([300, 3072, 768], 1, Activation::Identity));
        cases.push(one([1, 768, 768], 1, Activation::Identity));
    }
    cases
}

fn linear_bf16(short: bool, precision: Precision) -> Vec<Case> {
    let sizes = [[5, 37, 19], [1, 2, 64], [14, 64, 33], [130, 768, 770]];
    let sizes = &sizes[..if short { 3 } else { 4 }];
    let one = |[rows, inputs, outputs]: [usize; 3]| {
        let shapes: [(&[usize], f32); 3] =
            [(&[rows, inputs], 1.0), (&[outputs, inputs], reach(inputs)), (&[outputs], 1.0)];
        case(format!("{rows} x {inputs} x {outputs}"), &shapes, move |variables| {
            let [weight, bias] = [1, 2].map(|input| variables[input].as_detached_tensor());
            Linear::new(weight, Some(bias))?
                .with_precision(precision)
                .forward(&variables[0], Activation::Identity)
        })
    };
    sizes.iter().map(|&size| one(size)).collect()
}

/// What trains beside a frozen weight: one that trains is multiplied in f32.
const FROZEN: &[usize] = &[0b001, 0b101];

/// Views into larger tensors, so that each begins anywhere, and weights that are stored as their transpose; a bias is at the places
/// where a product can add it, and at others. And no rows at all, of which nothing comes.
fn linear_views(precision: Precision, masks: &[usize]) -> Vec<Case> {
    let one = |[rows, inputs, outputs]: [usize; 3], skipped: usize, is_turned: bool, mask: usize| {
        let turned = if is_turned { ", weight turned" } else { "" };
        let name = format!(
            "{rows} x {inputs} x {outputs}, from place {skipped} on{turned}, trained {mask:03b}, {}",
            precision.name()
        );
        // What is cut off lies before the rest, in one piece.
        let weight: &[usize] =
            if is_turned { &[inputs + skipped, outputs] } else { &[outputs + skipped, inputs] };
        let shapes: [(&[usize], f32); 3] =
            [(&[rows + skipped, inputs], 1.0), (weight, reach(inputs)), (&[outputs + skipped], 1.0)];
        case(name, &shapes, move |variables| {
            let behind = |input: usize| {
                let whole = trained(&variables[input], mask >> input & 1 == 1);
                whole.narrow(0, skipped, whole.dim(0)? - skipped)
            };
            let (x, weight, bias) = (behind(0)?, behind(1)?, behind(2)?);
            let weight = if is_turned { weight.t()? } else { weight };
            let layer = Linear::new(weight, Some(bias))?.with_precision(precision);
            let nothing = layer.forward(&x.narrow(0, 0, 0)?, Activation::Identity)?;
            if nothing.dims() != [0, outputs] {
                candle_core::bail!("expected nothing of no rows, found {:?}", nothing.dims());
            }
            layer.forward(&x, Activation::Identity)
        })
    };
    let mut cases = Vec::new();
    for size in [[1, 1, 1], [5, 19, 35], [1, 40, 3], [7, 3, 1], [14, 64, 36]] {
        for skipped in [0, 1, 4, 7] {
            for is_turned in [false, true] {
                cases.extend(masks.iter().map(|&mask| one(size, skipped, is_turned, mask)));
            }
        }
    }
    cases
}

/// What another thread makes, once it has waited for it: each has a stream of its own on a card.
fn elsewhere<T: Send>(device: &Device, make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let waited = || make().and_then(|made| device.synchronize().map(|()| made));
    std::thread::scope(|scope| scope.spawn(waited).join())
        .unwrap_or_else(|_| Err(candle_core::Error::Msg("a thread panicked".into())))
}

/// A weight that was just uploaded is another thread's to round, and to let go.
fn linear_elsewhere(precision: Precision) -> Vec<Case> {
    let shapes: [(&[usize], f32); 2] = [(&[14, 64], 1.0), (&[33, 64], reach(64))];
    let one = case("14 x 64 x 33".into(), &shapes, move |variables| {
        let weight = variables[1].as_tensor().affine(0.5, 0.0)?.detach();
        let layer = Linear::new(weight, None)?.with_precision(precision);
        elsewhere(variables[0].device(), || layer.pack())?;
        layer.forward(&variables[0], Activation::Identity)
    });
    vec![one]
}

fn linear_gated(short: bool, precision: Precision) -> Vec<Case> {
    let one = |[rows, inputs, outputs]: [usize; 3], activation: Activation| {
        let weight: (&[usize], f32) = (&[outputs, inputs], reach(inputs));
        let shapes: [(&[usize], f32); 3] = [(&[rows, inputs], 1.0), weight, weight];
        case(format!("{rows} x {inputs} x {outputs}, {activation:?}"), &shapes, move |variables| {
            let layer = |input: usize| {
                Linear::new(variables[input].as_detached_tensor(), None)
                    .map(|it| it.with_precision(precision))
            };
            layer(1)?.forward_gated(&layer(2)?, &variables[0], activation)
        })
    };
    let sizes: &[[usize; 3]] = if short { &[[5, 19, 35]] } else { &[[5, 19, 35], [40, 576, 1536]] };
    sizes.iter().flat_map(|&size| [Activation::Silu, Activation::GeluTanh].map(|it| one(size, it))).collect()
}

/// Two layers with nothing between them, as pruning may leave: the second one's bias alone comes out, and the gradient of what came in
/// is 0.
fn without_neurons(precision: Precision) -> Vec<Case> {
    let one = |[rows, width]: [usize; 2], is_gated: bool, mask: usize| {
        let name = format!("{rows} x {width}, gated {is_gated}, trained {mask:02b}");
        let shapes: [(&[usize], f32); 2] = [(&[rows, width], 1.0), (&[width], 1.0)];
        case(name, &shapes, move |variables| {
            let [x, bias] = [0, 1].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
            let layer = |sides, bias| {
                Ok::<_, candle_core::Error>(
                    Linear::new(zeros_on(sides, x.device())?, bias)?.with_precision(precision),
                )
            };
            let neurons = match is_gated {
                true => {
                    layer((0, width), None)?.forward_gated(&layer((0, width), None)?, &x, Activation::Silu)?
                }
                false => layer((0, width), None)?.forward(&x, Activation::Gelu)?,
            };
            layer((width, 0), Some(bias))?.forward(&neurons, Activation::Identity)
        })
    };
    let mut cases = Vec::new();
    for size in [[1, 1], [5, 19], [40, 768]] {
        for is_gated in [false, true] {
            cases.extend([1, 2, 3].map(|mask| one(size, is_gated, mask)));
        }
    }
    cases
}

fn gated_alone() -> Vec<Case> {
    let mut cases = Vec::new();
    for [rows, width] in [[1usize, 1usize], [3, 21], [5, 700]] {
        for activation in ACTIVATIONS {
            for mask in 1..4 {
                let shape: (&[usize], f32) = (&[rows, width], 1.0);
                let name = format!("{rows} x {width}, {activation:?}, trained {mask:02b}");
                cases.push(case(name, &[shape, shape], move |variables| {
                    let [gate, up] = [0, 1].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
                    gated(&gate, &up, activation)
                }));
            }
        }
    }
    cases
}

/// Rows and width of norms.
fn norm_sizes(short: bool) -> &'static [[usize; 2]] {
    let sizes: &[[usize; 2]] = &[[1, 16], [3, 5], [4, 33], [2, 768], [2000, 768], [100, 1025]];
    &sizes[..if short { 4 } else { 6 }]
}

fn layer_norm(short: bool) -> Vec<Case> {
    let one = |&[rows, width]: &[usize; 2], mask: usize| {
        let shapes: [(&[usize], f32); 3] = [(&[rows, width], 1.0), (&[width], 1.0), (&[width], 1.0)];
        case(format!("{rows} x {width}, trained {mask:03b}"), &shapes, move |variables| {
            let [x, weight, bias] = [0, 1, 2].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
            LayerNorm::new(weight, Some(bias), 1e-5)?.forward(&x)
        })
    };
    norm_sizes(short).iter().flat_map(|size| [1, 3, 4, 7].map(|mask| one(size, mask))).collect()
}

fn layer_norm_of_sum(short: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for &[rows, width] in norm_sizes(short) {
        for mask in [1, 3, 8, 15] {
            for probability in [None, Some(0.1), Some(0.4)] {
                let x: (&[usize], f32) = (&[rows, width], 1.0);
                let weight: (&[usize], f32) = (&[width], 1.0);
                let name = format!("{rows} x {width}, trained {mask:04b}, dropout {probability:?}");
                cases.push(case(name, &[x, weight, weight, x], move |variables| {
                    let [x, weight, bias, residual] =
                        [0, 1, 2, 3].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
                    // Two sequences, the second of two rows where there are so many.
                    let cut = rows - rows.saturating_sub(1).min(2);
                    let rows = Packing::from_starts(&[0, cut, rows])?.all_rows();
                    let dropout = probability.map(|it| Dropout::new(it, keys(2))).transpose()?;
                    let dropout = dropout.as_ref().map(|dropout| (&rows, dropout));
                    LayerNorm::new(weight, Some(bias), 1e-5)?.forward_residual(&x, &residual, dropout)
                }));
            }
        }
    }
    cases
}

/// With a gradient and without, which are not computed the same way.
fn layer_norm_of_linear(short: bool, precision: Precision) -> Vec<Case> {
    let mut cases = Vec::new();
    for &[rows, width] in norm_sizes(short) {
        for (trained_x, probability) in [(false, None), (false, Some(0.3)), (true, None), (true, Some(0.3))] {
            let inputs = 37;
            let (x, weight): (Input<'_>, Input<'_>) =
                ((&[rows, inputs], 1.0), (&[width, inputs], reach(inputs)));
            let (each, sum): (Input<'_>, Input<'_>) = ((&[width], 1.0), (&[rows, width], 1.0));
            let name = format!("{rows} x {inputs} x {width}, trained {trained_x}, dropout {probability:?}");
            cases.push(case(name, &[x, weight, each, each, each, sum], move |variables| {
                let x = trained(&variables[0], trained_x);
                let [weight, bias, scale, shift, sum] =
                    [1, 2, 3, 4, 5].map(|input| variables[input].as_detached_tensor());
                let linear = Linear::new(weight, Some(bias))?.with_precision(precision);
                let rows = Packing::from_starts(&[0, rows / 2, rows])?.all_rows();
                let dropout = probability.map(|it| Dropout::new(it, keys(2))).transpose()?;
                let dropout = dropout.as_ref().map(|dropout| (&rows, dropout));
                LayerNorm::new(scale, Some(shift), 1e-5)?.forward_linear_residual(&linear, x, &sum, dropout)
            }));
        }
    }
    cases
}

fn rms_norm(short: bool) -> Vec<Case> {
    let sizes: &[[usize; 3]] = &[[1, 1, 16], [3, 1, 5], [4, 3, 33], [2, 1, 576], [5, 9, 64], [1500, 1, 576]];
    let one = |&[rows, heads, width]: &[usize; 3], mask: usize| {
        let shapes: [(&[usize], f32); 2] = [(&[rows, heads * width], 1.0), (&[width], 1.0)];
        case(format!("{rows} x {heads} x {width}, trained {mask:02b}"), &shapes, move |variables| {
            let [x, weight] = [0, 1].map(|bit| trained(&variables[bit], mask >> bit & 1 == 1));
            RmsNorm::new(weight, 1e-5)?.forward_heads(&x, heads)
        })
    };
    let sizes = &sizes[..if short { 5 } else { 6 }];
    sizes.iter().flat_map(|size| [1, 2, 3].map(|mask| one(size, mask))).collect()
}

fn rotary() -> Vec<Case> {
    let mut cases = Vec::new();
    for (angles, head_width, heads) in [(2usize, 4usize, 1usize), (3, 10, 2), (32, 64, 9)] {
        for some in [false, true] {
            let rows = if some { 4 } else { 60 };
            let name = format!("{angles} angles of heads of {head_width}, {heads} heads, {rows} rows");
            cases.push(case(name, &[(&[rows, heads * head_width], 1.0)], move |variables| {
                let frequencies: Vec<f64> =
                    (0..angles).map(|angle| 1e4f64.powf(-(angle as f64) / angles as f64)).collect();
                let packing = Packing::from_starts(&[0, 7, 7, 60])?;
                let rows = if some { packing.select(&[0, 6, 9, 59])? } else { packing.all_rows() };
                Rotary::new(&frequencies, head_width)?.apply(&variables[0], &rows)
            }));
        }
    }
    cases
}

/// Which rows ask.
#[derive(Clone, Copy, Debug)]
enum Asking {
    All,
    First(usize),
    Last(usize),
    Some,
}

impl Asking {
    fn of(self, packing: &Packing) -> Result<RowSelection> {
        match self {
            Self::All => Ok(packing.all_rows()),
            Self::First(count) => Ok(packing.first_rows(count)),
            Self::Last(count) => Ok(packing.last_rows(count)),
            Self::Some => {
                let numbers: Vec<u32> = (0..packing.rows() as u32).filter(|row| row % 7 == 1).collect();
                packing.select(&numbers)
            }
        }
    }
}

/// One key for each sequence.
fn keys(sequences: u8) -> Vec<[u8; 32]> {
    (1..=sequences).map(|number| [number; 32]).collect()
}

fn attend(lengths: &[usize], asking: Asking, form: AttentionForm, probability: Option<f32>) -> Result<Case> {
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + length);
    }
    let packing = Packing::from_starts(&starts)?;
    let queries = asking.of(&packing)?;
    let keys_wide = [packing.rows(), form.key_value_heads * form.head_width];
    let shapes: [(&[usize], f32); 3] =
        [(&[queries.len(), form.heads * form.head_width], 1.7), (&keys_wide, 1.7), (&keys_wide, 1.0)];
    let sequences = lengths.len() as u8;
    let name = format!("{lengths:?}, {asking:?}, {form:?}, dropout {probability:?}");
    Ok(case(name, &shapes, move |variables| {
        let [q, k, v] = [0, 1, 2].map(|input| variables[input].as_tensor());
        let mask = probability.map(|probability| Dropout::new(probability, keys(sequences))).transpose()?;
        attention(q, k, v, &packing, &queries, &form, mask.as_ref())
    }))
}

/// Cases that can be made; what is no form is a fault of this program, and shows as fewer cases.
fn collect(cases: Vec<Result<Case>>) -> Vec<Case> {
    cases.into_iter().flatten().collect()
}

fn encoder_attention(short: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for probability in [None, Some(0.1)] {
        for (heads, width) in [(1, 1), (2, 8), (3, 21), (2, 64)] {
            for asking in [Asking::All, Asking::First(1), Asking::Some] {
                let form = AttentionForm::encoder(heads * width, heads);
                cases.push(form.and_then(|form| attend(&[5, 0, 1, 33, 17], asking, form, probability)));
            }
        }
        if !short {
            let form = AttentionForm::encoder(768, 12);
            cases.push(form.and_then(|form| attend(&[29, 128, 64, 41], Asking::All, form, probability)));
        }
    }
    collect(cases)
}

/// A form whose heads are `group` for each head of keys.
fn grouped(key_value_heads: usize, group: usize, head_width: usize, sees: Sees) -> AttentionForm {
    let scale = 1.0 / (head_width as f32).sqrt();
    AttentionForm { heads: key_value_heads * group, key_value_heads, head_width, scale, soft_cap: None, sees }
}

fn other_attention() -> Vec<Case> {
    let window = Sees { before: Some(4), after: Some(0) };
    let local = Sees { before: Some(3), after: Some(3) };
    let mut cases = Vec::new();
    for sees in [Sees::ALL, Sees::CAUSAL, window, local, Sees { before: None, after: Some(2) }] {
        for (key_value_heads, group, width) in [(1, 1, 1), (2, 3, 21), (1, 4, 8)] {
            let form = grouped(key_value_heads, group, width, sees);
            for (asking, probability, soft_cap) in [
                (Asking::All, None, None),
                (Asking::Last(1), None, None),
                (Asking::Last(2), Some(0.3), None),
                (Asking::All, Some(0.3), None),
                (Asking::Some, None, Some(0.7)),
            ] {
                let form = AttentionForm { soft_cap, ..form };
                cases.push(attend(&[5, 0, 1, 33, 90], asking, form, probability));
            }
        }
    }
    collect(cases)
}

fn long_attention(short: bool) -> Vec<Case> {
    let rows = if short { 200 } else { 1100 };
    let mut cases = Vec::new();
    for sees in [Sees::ALL, Sees::CAUSAL, Sees { before: Some(64), after: Some(64) }] {
        cases.push(attend(&[rows, 3], Asking::All, grouped(1, 2, 8, sees), None));
        cases.push(attend(&[rows, 3], Asking::All, grouped(1, 1, 64, sees), Some(0.1)));
    }
    collect(cases)
}

/// Four layers' weights: query, key and value with their biases.
fn projections(variables: &[Var], precision: Precision) -> Result<[Linear; 3]> {
    let layer = |first: usize| {
        let [weight, bias] = [first, first + 1].map(|input| variables[input].as_detached_tensor());
        Linear::new(weight, Some(bias)).map(|layer| layer.with_precision(precision))
    };
    Ok([layer(2)?, layer(4)?, layer(6)?])
}

fn one_row(precision: Precision) -> Vec<Case> {
    let mut cases = Vec::new();
    for (hidden, heads) in [(8, 2), (64, 4)] {
        for asking in [Asking::First(1), Asking::Last(1), Asking::All] {
            let queries = if matches!(asking, Asking::All) { 23 } else { 2 };
            let weight: (&[usize], f32) = (&[hidden, hidden], reach(hidden));
            let bias: (&[usize], f32) = (&[hidden], 0.5);
            let shapes: [(&[usize], f32); 8] =
                [(&[23, hidden], 1.0), (&[queries, hidden], 1.0), weight, bias, weight, bias, weight, bias];
            cases.push(case(
                format!("hidden {hidden}, {heads} heads, {asking:?}"),
                &shapes,
                move |variables| {
                    let [q, k, v] = projections(variables, precision)?;
                    let made = SelfAttention::new(q, k, v, AttentionForm::encoder(hidden, heads)?)?;
                    let queries = asking.of(&Packing::from_starts(&[0, 20, 23])?)?;
                    made.forward(&variables[0], &variables[1], &queries, None)
                },
            ));
        }
    }
    cases
}

fn decoder_attention() -> Vec<Case> {
    const HIDDEN: usize = 20;
    let mut cases = Vec::new();
    for (between, probability) in
        [("plain", None), ("rotary", None), ("norms, rotary", None), ("norms, rotary", Some(0.2))]
    {
        for asking in [Asking::Last(1), Asking::All] {
            for sees in [Sees::CAUSAL, Sees { before: Some(3), after: Some(0) }] {
                let form = AttentionForm { scale: 0.3, ..grouped(2, 2, 6, sees) };
                let (query, key) = (form.heads * form.head_width, form.key_value_heads * form.head_width);
                let queries = if matches!(asking, Asking::All) { 66 } else { 3 };
                let reach = reach(HIDDEN);
                let shapes: [(&[usize], f32); 10] = [
                    (&[66, HIDDEN], 1.0),
                    (&[queries, HIDDEN], 1.0),
                    (&[query, HIDDEN], reach),
                    (&[query], 0.5),
                    (&[key, HIDDEN], reach),
                    (&[key], 0.5),
                    (&[key, HIDDEN], reach),
                    (&[key], 0.5),
                    (&[form.head_width], 1.0),
                    (&[form.head_width], 1.0),
                ];
                let name = format!("{between}, {asking:?}, {sees:?}, dropout {probability:?}");
                cases.push(case(name, &shapes, move |variables| {
                    let [q, k, v] = projections(variables, Precision::F32)?;
                    let mut made = SelfAttention::new(q, k, v, form)?;
                    if between.contains("norms") {
                        let norm = |input: usize| RmsNorm::new(trained(&variables[input], true), 1e-6);
                        made = made.with_norms(norm(8)?, norm(9)?)?;
                    }
                    if between.contains("rotary") {
                        made = made.with_rotary(Rotary::new(&[1.0, 0.05], form.head_width)?)?;
                    }
                    let mask =
                        probability.map(|probability| Dropout::new(probability, keys(4))).transpose()?;
                    let queries = asking.of(&Packing::from_starts(&[0, 5, 5, 6, 66])?)?;
                    made.forward(&variables[0], &variables[1], &queries, mask.as_ref())
                }));
            }
        }
    }
    cases
}

fn dropouts(short: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for width in [1usize, 50, if short { 130 } else { 768 }] {
        for probability in [0.0, 0.1, 0.4] {
            let name = format!("width {width}, probability {probability}");
            cases.push(case(name, &[(&[7, width], 1.0)], move |variables| {
                let rows = Packing::from_starts(&[0, 17, 40])?.select(&[0, 3, 8, 16, 17, 30, 39])?;
                dropout(&variables[0], &rows, &Dropout::new(probability, keys(2))?)
            }));
        }
    }
    cases
}

fn selected() -> Vec<Case> {
    let one = |asking: Asking| {
        case(format!("{asking:?}"), &[(&[40, 33], 1.0)], move |variables| {
            select_rows(&variables[0], &asking.of(&Packing::from_starts(&[0, 17, 40])?)?)
        })
    };
    [Asking::All, Asking::First(1), Asking::Last(3), Asking::Some].map(one).into()
}

/// What says which rows they are was just uploaded by another thread than the one that uses it again.
fn selected_elsewhere() -> Vec<Case> {
    let one = case("rows 0, 6 and 19".into(), &[(&[40, 33], 1.0)], |variables| {
        let x = variables[0].as_tensor();
        let rows = Packing::from_starts(&[0, 17, 40])?.select(&[0, 6, 19])?;
        x.device().synchronize()?;
        select_rows(x, &rows)?;
        elsewhere(x.device(), || select_rows(x, &rows))
    });
    vec![one]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_as_the_cpu() {
        let mut cases = 0;
        for operation in operations(true) {
            cases += operation.cases.len();
            let found = compare(&operation.cases, &Device::Cpu, 3).unwrap();
            assert_eq!((found.values, found.gradients), (0.0, 0.0), "{}: {found}", operation.name);
        }
        assert_eq!(cases, 644);
    }

    /// What is compared depends on the seed, and a result that is off is seen.
    #[test]
    fn what_is_off_is_seen() {
        let cases = gated_alone();
        let mut worst = Difference::default();
        let at = |seed| measure(&cases[20], &Device::Cpu, Key::new(seed, Purpose::Corpus)).unwrap();
        worst.take("another seed", &at(1), &at(2));
        assert!(worst.values > 0.01 && worst.gradients > 0.01 && !worst.within(F32), "{worst}");
        // In f32 and in bf16 products differ, by less than bf16's rounding.
        let [bf16, f32] = [Precision::Bf16, Precision::F32].map(|precision| linear_bf16(true, precision));
        let found = compare_with(&bf16, &f32, &Device::Cpu, 1).unwrap();
        assert!(!found.within(BF16) && found.values < 0.02, "{found}");
    }
}
