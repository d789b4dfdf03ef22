//! The same numbers on a CUDA device.

use candle_core::Device;
use skn_model::Gradients;

use crate::case::{Case, assert_near};

fn on_device() -> Case {
    Case::load_on(&Device::new_cuda(0).unwrap())
}

#[test]
#[ignore = "needs a CUDA device"]
fn logits_of_the_test_rows() {
    let case = on_device();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    assert_near("logits", &case.logits(&model, &case.test()), &case.f32("test_logits"), 2e-4);
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_are_those_of_the_cpu() {
    let (cpu, cuda) = (Case::load(), on_device());
    for ((method, tuning), (_, on_cuda)) in cpu.tunings().into_iter().zip(cuda.tunings()) {
        let models = [cpu.model(&tuning, Gradients::Tuned), cuda.model(&on_cuda, Gradients::Tuned)];
        let stores = [&cpu, &cuda].into_iter().zip(&models);
        let stores: Vec<_> =
            stores.map(|(case, model)| case.loss(model, &case.first16()).backward().unwrap()).collect();
        for (name, variable) in models[0].parameters() {
            let values = |place: usize, variable: &candle_core::Var| {
                let gradient = stores[place].get(variable.as_tensor()).unwrap();
                gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (expected, found) = (values(0, variable), values(1, &models[1].parameters()[name]));
            let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert_near(&format!("{method}: gradient of {name}"), &found, &expected, 1e-3 * largest + 1e-6);
        }
    }
}
