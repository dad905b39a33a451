//! The graph flavour, baked.

use lockgate_bake::{Options, bake};
use lockgate_package::{Engine, Tensor};
use lockgate_runtime::{Contents, Demands};

use crate::guest::{Guest, bake_all, engine, predict_request};
use crate::support::{self, package, rows};

#[test]
fn a_recurrent_network_is_baked_into_the_graph_flavour() {
    let core = support::core();
    let packages = ["eurusd_lstm@2.1.0", "eurusd_lr@1.0.0"].map(package);
    let baked = bake_all(&core, Contents::unnamed(None, packages.to_vec())).unwrap();
    let graph = core.graph.as_ref().unwrap();
    assert_eq!(baked.manifest.inference.flavour, Some(Engine::Graph));
    assert_eq!(baked.manifest.inference.identity, graph.identity());
    let engine = engine();
    let values: Vec<f32> = (0..2 * 20 * 17).map(|index| (index as f32 * 0.37).sin()).collect();
    let sequence = Tensor::fp32("input", vec![2, 20, 17], &values);
    let mut baked = Guest::new(&engine, &baked.inference.module);
    let mut loaded = Guest::new(&engine, graph.bytes());
    // Baked packages are numbered by name.
    for (bytes, handle, inputs) in [(&packages[1], 0, rows(3)), (&packages[0], 1, sequence)] {
        assert_eq!(loaded.load(bytes), Ok(handle));
        assert_eq!(baked.loaded(handle as usize), loaded.loaded(handle as usize));
        let request = predict_request(handle, &[inputs]);
        let of_baked = baked.call("lockgate_predict", &request).unwrap();
        assert_eq!(of_baked, loaded.call("lockgate_predict", &request).unwrap());
        assert!(of_baked.len() > 100);
    }
}

#[test]
fn a_flavour_can_be_asked_for_but_not_one_that_is_too_small() {
    let options = |flavour| Options { flavour: Some(flavour), ..Options::default() };
    let contents = |model| Contents::unnamed(None, vec![package(model)]);
    let core = support::core();
    let too_small =
        bake(&core, contents("eurusd_lstm@2.1.0"), &Demands::default(), &options(Engine::Tabular))
            .unwrap_err();
    assert_eq!(too_small.code(), "missing_module");
    assert_eq!(
        too_small.to_string(),
        "eurusd_lstm@2.1.0 needs the graph flavour of the inference module, and the tabular one was asked for"
    );
    let mut small = core;
    small.graph = None;
    for (contents, options, name) in [
        (contents("eurusd_lstm@2.1.0"), Options::default(), "eurusd_lstm@2.1.0"),
        (contents("eurusd_lr@1.0.0"), options(Engine::Graph), "this bake"),
    ] {
        let missing = bake(&small, contents, &Demands::default(), &options).unwrap_err();
        assert_eq!(missing.code(), "missing_module");
        let expected =
            format!("{name} needs the graph flavour of the inference module, which this core does not have");
        assert_eq!(missing.to_string(), expected);
    }
}
