//! What looks like a relative and computes something else is refused by name.

use super::{Case, cases, files};
use crate::common::gguf_writer::{GgufWriter, Meta};
use crate::common::tiny_model::{TinySpec, type_id, write_hf_folder_with};
use safetensors::SafeTensors;
use secateur::Error;
use secateur::config::FAMILIES;
use secateur::model::{ModelFiles, TensorType};
use serde_json::{Value, json};

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// What is said of a folder with a bent configuration.
fn folder(name: &str, bend: impl FnOnce(&mut Value)) -> Result<ModelFiles, Error> {
    let (case, dir) = (case(name), tempfile::tempdir().unwrap());
    let mut config = case.config.clone();
    bend(&mut config);
    write_hf_folder_with(dir.path(), &case.spec(), &config);
    ModelFiles::open(dir.path())
}

/// What is said of a bent GGUF file.
fn gguf(architecture: &'static str, bend: impl FnOnce(&mut GgufWriter)) -> Result<ModelFiles, Error> {
    let mut file = TinySpec::of(architecture, TinySpec::default()).gguf();
    bend(&mut file);
    ModelFiles::from_gguf_bytes("tiny.gguf", file.to_bytes())
}

#[track_caller]
fn says(result: Result<ModelFiles, Error>, words: &[&str]) {
    let error = result.expect_err(&words.join(" "));
    let text = error.to_string();
    assert!(error.is_user_fault(), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "`{text}` should say {words:?}");
}

#[test]
fn unknown_architectures_are_told_which_run() {
    let known: Vec<&str> = FAMILIES.iter().filter_map(|family| family.gguf).collect();
    says(
        gguf("llama", |file| _ = file.set("general.architecture", Meta::Text("gemma2".into()))),
        &[&["gemma2"], &known[..]].concat(),
    );
    let known: Vec<&str> = FAMILIES.iter().map(|family| family.class).collect();
    let class = |config: &mut Value| config["architectures"] = json!(["Gemma2ForCausalLM"]);
    says(folder("qwen2", class), &[&["Gemma2ForCausalLM"], &known[..]].concat());
}

#[test]
fn long_rope_is_refused_by_name() {
    for name in ["rope_factors_long.weight", "rope_factors_short.weight"] {
        let factors = |file: &mut GgufWriter| {
            let mut tensor = file.tensors[1].clone();
            tensor.name = name.into();
            file.tensors.push(tensor);
        };
        says(gguf("phi3", factors), &["longrope", name]);
    }
    for kind in ["longrope", "su", "yarn"] {
        let rope = json!({"type": kind, "long_factor": [1.0], "short_factor": [1.0]});
        says(folder("phi3", |config| config["rope_parameters"] = rope), &["rope scaling", kind]);
    }
}

#[test]
fn what_a_family_lacks_is_refused_and_what_it_needs_is_missed() {
    says(folder("qwen3", |config| config["attention_bias"] = json!(true)), &["attention_bias"]);
    says(folder("qwen2", |config| config["hidden_act"] = json!("gelu")), &["gelu", "silu"]);
    let chunked = |config: &mut Value| config["layer_types"][3] = json!("chunked_attention");
    says(folder("qwen2-window", chunked), &["chunked_attention", "sliding_attention"]);
    let fewer = |config: &mut Value| config["layer_types"] = json!(["full_attention"]);
    says(folder("qwen2-window", fewer), &["layer_types", "1 items for 4 layers"]);
    says(
        folder("smollm3", |config| config["no_rope_layers"] = json!([1])),
        &["no_rope_layers", "1 items for 5 layers"],
    );
    let never = |config: &mut Value| {
        config["no_rope_layers"] = Value::Null;
        config["no_rope_layer_interval"] = json!(0);
    };
    says(folder("smollm3", never), &["no_rope_layer_interval is 0"]);
    says(folder("mistral", |config| config["sliding_window"] = json!(0)), &["sliding window is 0"]);
    // The biases of one family are not left out by another.
    says(gguf("llama", |file| rename(file, "output_norm.weight", "blk.0.attn_q.bias")), &["output_norm.weight"]);
    let more = |file: &mut GgufWriter| {
        let mut tensor = file.tensors[1].clone();
        tensor.name = b"blk.0.attn_q.bias".to_vec();
        file.tensors.push(tensor);
    };
    says(gguf("llama", more), &["blk.0.attn_q.bias", "LLaMA", "without biases"]);
    for (architecture, name) in [
        ("qwen2", "blk.1.attn_k.bias"),
        ("qwen3", "blk.0.attn_q_norm.weight"),
        ("phi3", "blk.0.attn_qkv.weight"),
        ("phi3", "blk.1.ffn_up.weight"),
    ] {
        says(
            gguf(architecture, |file| file.tensors.retain(|tensor| tensor.name != name.as_bytes())),
            &[name, "missing"],
        );
    }
    // Gate and up are two halves: one of them alone does not fit.
    let half = |file: &mut GgufWriter| {
        let tensor = file.tensor("blk.0.ffn_up.weight");
        tensor.ne[1] /= 2;
        tensor.data.truncate(tensor.data.len() / 2);
    };
    says(gguf("phi3", half), &["blk.0.ffn_up.weight", "[192, 64]", "[96, 64]"]);
}

#[test]
fn variants_of_opt_are_refused_and_missing_tensors_are_told() {
    for (field, value) in [
        ("activation_function", json!("gelu")),
        ("enable_bias", json!(false)),
        ("_remove_final_layer_norm", json!(true)),
        ("layer_norm_elementwise_affine", json!(false)),
    ] {
        says(folder("opt", |config| config[field] = value.clone()), &[&value.to_string().replace('"', "")]);
    }
    says(folder("opt-behind", |config| config["word_embed_proj_dim"] = json!(40)), &["word_embed_proj_dim is 40"]);
    says(
        folder("opt", |config| config["max_position_embeddings"] = json!(511)),
        &["embed_positions", "[513, 64]", "[514, 64]"],
    );
    for name in ["position_embd.weight", "output_norm.bias", "blk.0.attn_output.bias", "blk.1.ffn_up.bias"] {
        says(gguf("opt", |file| file.tensors.retain(|tensor| tensor.name != name.as_bytes())), &[name, "missing"]);
    }
    // What its MLP has no use for.
    says(gguf("opt", |file| rename(file, "blk.0.ffn_up.weight", "blk.0.ffn_gate.weight")), &["blk.0.ffn_up.weight"]);
}

/// A model saved without its head has names without what the head's class puts before them.
#[test]
fn names_without_the_base_models_prefix_are_known() {
    for name in ["opt", "qwen2"] {
        let (case, dir) = (case(name), tempfile::tempdir().unwrap());
        write_hf_folder_with(dir.path(), &case.spec(), &case.config);
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let bare = file.tensors().into_iter().map(|(name, view)| (name.trim_start_matches("model.").to_owned(), view));
        std::fs::write(&path, safetensors::serialize(bare, None).unwrap()).unwrap();
        let found = ModelFiles::open(dir.path()).unwrap();
        let (_whole, expected) = case.folder();
        let values = |files: &ModelFiles| files.tensors().map(|tensor| tensor.bytes.to_vec()).collect::<Vec<_>>();
        assert_eq!(values(&found), values(&expected), "{name}");
    }
}

/// What a `config.json` leaves out is what the family's class in transformers takes.
#[test]
fn absent_fields_take_the_defaults_of_the_class() {
    let without = |name: &str, fields: &[&str]| {
        let bend =
            |config: &mut Value| fields.iter().for_each(|field| _ = config.as_object_mut().unwrap().remove(*field));
        folder(name, bend).unwrap().config
    };
    assert_eq!(without("mistral", &["sliding_window"]).blocks.sliding_window, Some(4096));
    assert_eq!(without("mistral-full", &[]).blocks.sliding_window, None, "null is no window");
    assert_eq!(without("smollm3", &["no_rope_layers", "no_rope_layer_interval"]).blocks.no_rope_layers, [3]);
    assert_eq!(without("smollm3", &["rope_parameters"]).rope_theta, 2_000_000.0);
    assert!(without("smollm3", &["tie_word_embeddings"]).tie_word_embeddings);
    assert_eq!(without("phi3", &["rms_norm_eps"]).rms_norm_eps, 1e-5);
    let sliding = without("qwen2-window", &["layer_types"]).blocks;
    assert_eq!(
        (sliding.sliding_window, sliding.full_attention_layers),
        (Some(7), vec![0, 1]),
        "from max_window_layers on"
    );
    let few = without("qwen2-window", &["layer_types", "max_window_layers"]).blocks;
    assert_eq!(few.sliding_window, None, "the first 28 layers have none");
    let mixed = without("smollm3-window", &["layer_types"]).blocks;
    assert_eq!((mixed.sliding_window, mixed.full_attention_layers), (Some(5), vec![0, 2]), "layers without rope");
}

/// Files of Phi-3 may be of any format, and of more than one.
#[test]
fn fused_tensors_may_be_quantised() {
    let spec = TinySpec { kind: TensorType::Q8_0, ..TinySpec::of("phi3", TinySpec::default()) };
    let mut file = spec.gguf();
    assert_eq!(file.tensor("blk.0.attn_qkv.weight").type_id, type_id(TensorType::Q8_0));
    let (engine, reference) = crate::common::device::pair(&files(&file));
    let ids = crate::common::device::Random(3).ids(20, spec.vocab);
    let found = secateur::engine::Scorer::new(&engine, 1, 20)
        .unwrap()
        .last_logits(std::slice::from_ref(&ids), &mut secateur::prune::Dense)
        .unwrap();
    let run = reference.run_batch(std::slice::from_ref(&ids), &mut crate::common::reference::Masks::new());
    let allowed = crate::common::device::tolerance(engine.config(), 20);
    crate::common::device::assert_close(&found[0], &reference.last_logits(&run.last[0]), allowed, "Q8_0");
}

fn rename(file: &mut GgufWriter, from: &str, to: &str) {
    file.tensor(from).name = to.into();
}
