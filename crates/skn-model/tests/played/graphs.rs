//! Passes that are replayed, next to plain ones.

use candle_core::Tensor;
use skn_kernels::{launches, replays, uploads};
use skn_model::{
    Gradients, LanguageModel, NoHook, Output, Pass, Precision, Rows, Scored, Sequences, Site,
    TrainingDropout, Tuning,
};

use crate::case::{Case, Texts, sequences};
use crate::compile;

/// Texts of these lengths, other ones each round.
fn texts(lengths: &[usize], round: u32) -> Texts {
    let text = |(place, &length): (usize, &usize)| {
        (0..length as u32).map(|at| 5 + (at * 37 + place as u32 * 11 + round * 101) % 400).collect()
    };
    Texts { texts: lengths.iter().enumerate().map(text).collect(), labels: Vec::new() }
}

fn bits(hidden: &Tensor) -> Vec<u32> {
    hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// How much is replayed and uploaded for a batch, whose answers must be those of a plain pass.
fn by(graphs: &LanguageModel, plain: &LanguageModel, batch: Sequences<'_>, output: &Output) -> (u64, u64) {
    let pass = Pass { output: output.clone(), dropout: None };
    let expected = plain.forward(batch, &pass, &mut NoHook).unwrap();
    let before = (replays(), uploads());
    let found = graphs.forward(batch, &pass, &mut NoHook).unwrap();
    assert_eq!(bits(&found), bits(&expected), "{:?}", batch.starts);
    (replays() - before.0, uploads() - before.1)
}

const LENGTHS: [&[usize]; 4] = [&[7], &[7, 12], &[12, 7], &[3, 3, 3]];

#[test]
fn replayed_passes_have_the_bits_of_plain_ones() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    for (tuning, precision, lengths) in [
        (Tuning::plain_text(), Precision::F32, &LENGTHS[2..]),
        (case.prompt(), Precision::F32, &LENGTHS[..]),
        (case.prompt(), Precision::Bf16, &LENGTHS[..2]),
        (case.adapters(), Precision::F32, &LENGTHS[1..3]),
    ] {
        let model = || case.model(&tuning, Gradients::Nothing).with_precision(precision);
        let (plain, graphs) = (model(), model().with_graphs());
        for round in 0..3 {
            for lengths in lengths {
                let packed = texts(lengths, round).packed();
                let found = by(&graphs, &plain, sequences(&packed), &Output::Answer);
                // The tokens alone, once a pass is captured.
                match round {
                    0 => assert_eq!(found.0, 0),
                    1 => assert_eq!(found.0, 1),
                    _ => assert_eq!(found, (1, 1)),
                }
            }
        }
    }
}

/// The logits of a batch, which must be those of a plain pass and the head behind it, and what was replayed, uploaded and launched for
/// them.
fn answered(
    graphs: &LanguageModel,
    plain: &LanguageModel,
    batch: Sequences<'_>,
    scored: Scored<'_>,
) -> [u64; 3] {
    let hidden = plain.forward(batch, &Pass::default(), &mut NoHook).unwrap();
    let expected = plain.logits(&hidden, scored).unwrap();
    let before = [replays(), uploads(), launches()];
    let found = graphs.forward_logits(batch, &Pass::default(), scored, &mut NoHook).unwrap();
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(bits(&found), bits(&expected), "{:?}, {scored:?}", batch.starts);
    let after = [replays(), uploads(), launches()];
    [0, 1, 2].map(|count| after[count] - before[count])
}

/// A replayed answer is one launch on a card, where it uploads the tokens and nothing else. Played, it is what the graph holds: the norm
/// of the embeddings, four kernels of each layer, and two of the head, beside products.
#[test]
fn an_answer_is_replayed_with_its_head() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let model = || case.model(&case.prompt(), Gradients::Nothing);
    let (plain, graphs) = (model(), model().with_graphs());
    let held = 1 + 4 * case.config.layers() as u64 + 2;
    let words = case.verbalizer.clone();
    let reversed: Vec<u32> = words.iter().rev().copied().collect();
    for round in 0..4 {
        let packed = texts(&[7, 12], round).packed();
        let found = answered(&graphs, &plain, sequences(&packed), Scored::Tokens(&words));
        match round {
            0 => assert_eq!(found[0], 0),
            1 => assert_eq!(found[0], 1),
            _ => assert_eq!(found, [1, 1, held]),
        }
        // Its hidden states are another work, and so are the logits of other words, whose layer is let go each time.
        assert_eq!(by(&graphs, &plain, sequences(&packed), &Output::Answer).0, u64::from(round > 0));
        let found = answered(&graphs, &plain, sequences(&packed), Scored::Tokens(&reversed));
        assert_eq!(found[0], u64::from(round > 0));
        // For all words the head comes behind those hidden states.
        assert_eq!(answered(&graphs, &plain, sequences(&packed), Scored::All)[0], 1);
    }
}

/// What a pass gives is as much of what it is as the lengths of its texts.
#[test]
fn passes_that_give_other_rows_are_others() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let model = || case.model(&case.prompt(), Gradients::Nothing);
    let (plain, graphs) = (model(), model().with_graphs());
    let packed = texts(&[7, 12], 0).packed();
    let outputs = [Output::Answer, Output::Rows([0, 3].into()), Output::Rows([1, 3].into())];
    for expected in [0, 1, 1] {
        for output in &outputs {
            assert_eq!(by(&graphs, &plain, sequences(&packed), output).0, expected);
        }
        assert_eq!(by(&graphs, &plain, sequences(&packed), &Output::Nothing).0, 0);
    }
    // The places of second texts too: for a model that can't tell they change nothing but that.
    let (ids, starts, samples) = &packed;
    for (seconds, expected) in [([3, 9], 0), ([3, 9], 1), ([4, 9], 0)] {
        let batch = Sequences { ids, starts, samples, seconds: &seconds };
        assert_eq!(by(&graphs, &plain, batch, &Output::Answer).0, expected, "{seconds:?}");
    }
}

#[test]
fn what_may_change_is_never_replayed() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let packed = texts(&[7], 0).packed();
    let batch = sequences(&packed);
    let before = replays();
    let answers = Pass::default();
    // Something trains.
    let trains = case.model(&case.prompt(), Gradients::Tuned).with_graphs();
    let model = case.model(&case.prompt(), Gradients::Nothing).with_graphs();
    let dropout = TrainingDropout { hidden: 0.1, attention: 0.1, seed: 0, step: 1 };
    let dropped = Pass { output: Output::Answer, dropout: Some(dropout) };
    let mut seen = 0;
    for _ in 0..3 {
        assert!(trains.forward(batch, &answers, &mut NoHook).unwrap().track_op());
        model.forward(batch, &dropped, &mut NoHook).unwrap();
        let mut hook = |_: Site, _: &Rows<'_>, x: Tensor| {
            seen += 1;
            Ok(x)
        };
        model.forward(batch, &answers, &mut hook).unwrap();
        // With others a hook shares what they have in common.
        model
            .forward_each(batch, &answers, &mut [&mut NoHook, &mut NoHook], |_, _| {
                Ok::<_, skn_model::ModelError>(())
            })
            .unwrap();
    }
    assert_eq!(seen, 3 * 2 * case.config.layers());
    // More rows than launching takes longer for.
    let long = texts(&[100, 100, 100], 0).packed();
    for _ in 0..3 {
        model.forward(sequences(&long), &answers, &mut NoHook).unwrap();
    }
    assert_eq!(replays(), before);
    // A hook that reads nothing is none.
    for _ in 0..2 {
        model
            .forward_each(batch, &answers, &mut [&mut NoHook], |_, _| Ok::<_, skn_model::ModelError>(()))
            .unwrap();
    }
    assert_eq!(replays(), before + 1);
}

#[test]
fn a_model_in_another_precision_begins_anew() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let model = || case.model(&case.prompt(), Gradients::Nothing);
    let packed = texts(&[7], 0).packed();
    let graphs = model().with_graphs();
    let replayed = |graphs: &LanguageModel, plain: &LanguageModel| {
        [(); 3].map(|()| by(graphs, plain, sequences(&packed), &Output::Answer).0)
    };
    assert_eq!(replayed(&graphs, &model()), [0, 1, 1]);
    let rounded = || model().with_precision(Precision::Bf16);
    assert_eq!(replayed(&graphs.with_precision(Precision::Bf16), &rounded()), [0, 1, 1]);
}

/// The tokens of a replay are looked at as those of any pass.
#[test]
fn a_replay_refuses_what_a_pass_refuses() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing).with_graphs();
    let mut wrong = texts(&[7], 0);
    for _ in 0..2 {
        model.forward(sequences(&wrong.packed()), &Pass::default(), &mut NoHook).unwrap();
    }
    wrong.texts[0][3] = case.config.vocab_size as u32;
    let before = uploads();
    let error = model.forward(sequences(&wrong.packed()), &Pass::default(), &mut NoHook).unwrap_err();
    assert!(error.to_string().contains("token id"), "{error}");
    assert_eq!(uploads(), before, "they were looked at before they were written over others");
}
