//! The pruning panel.

use super::made;
use eframe::egui::Theme;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use secateur::app::heat::pruning;
use secateur::config::{Method, PruneBlocks, PruneConfig, PrunePhases};

struct Panel {
    settings: PruneConfig,
    pending: bool,
    changes: usize,
}

fn panel(theme: Theme, width: f32, settings: PruneConfig) -> Harness<'static, Panel> {
    let state = Panel { settings, pending: false, changes: 0 };
    made::harness([width, 460.0], theme, state, |ui, panel| {
        let model = made::model();
        panel.changes += usize::from(pruning(ui, &mut panel.settings, Some(&model), 128, panel.pending));
    })
}

fn probing() -> PruneConfig {
    PruneConfig { method: Method::Pp, ratio: 0.4, ..PruneConfig::default() }
}

#[test]
fn the_panel_looks_as_it_should() {
    let both = PrunePhases { prefill: true, decode: true };
    let mut harness = panel(Theme::Light, 340.0, PruneConfig { phases: both, ratio: 0.2, ..probing() });
    harness.state_mut().pending = true;
    harness.run();
    harness.get_by_label("When, what, and how it probes").click();
    harness.run();
    harness.remove_cursor();
    harness.run();
    harness.snapshot("heat_pruning");
}

#[test]
fn the_slider_sets_the_ratio_and_says_what_it_removes() {
    let mut harness = panel(Theme::Dark, 340.0, probing());
    harness.run();
    let removed = 100.0 * secateur::session::planned(&made::model(), &probing(), 128).answer_removed;
    harness.get_by_label(&format!("Answer: removes {removed:.1} % of the layers' FLOPs"));
    harness.get_by_label_contains("6 of 9 heads, 896 of 1536 channels");
    let slider = harness.get_by_role_and_label(eframe::egui::accesskit::Role::Slider, "Pruning ratio");
    slider.set_value_accesskit(0.2);
    harness.run();
    assert_eq!((harness.state().settings.ratio, harness.state().changes), (0.2, 1));
    harness.get_by_label_contains("8 of 9 heads, 1216 of 1536 channels");
}

#[test]
fn a_probe_that_costs_more_than_it_saves_says_so() {
    let both = PrunePhases { prefill: true, decode: true };
    let mut harness = panel(Theme::Dark, 340.0, PruneConfig { phases: both, lead_tokens: 0, ratio: 0.2, ..probing() });
    harness.run();
    harness.get_by_label_contains("this probe costs more than it saves");
}

#[test]
fn a_dense_model_has_no_ratio_to_set() {
    let mut harness = panel(Theme::Dark, 340.0, probing());
    harness.run();
    harness.get_by_role_and_label(eframe::egui::accesskit::Role::ComboBox, "Method").click();
    harness.run();
    harness.get_by_label("Dense").click();
    harness.run();
    assert_eq!(harness.state().settings.method, Method::Dense);
    let slider = harness.get_by_role_and_label(eframe::egui::accesskit::Role::Slider, "Pruning ratio");
    assert!(slider.accesskit_node().is_disabled());
    harness.get_by_label_contains("choose a method that prunes");
    assert!(harness.query_by_label_contains("removes").is_none());
}

#[test]
fn a_prompt_that_is_all_lead_says_so() {
    let both = PrunePhases { prefill: true, decode: true };
    let mut harness = panel(Theme::Dark, 340.0, PruneConfig { phases: both, lead_tokens: 128, ..probing() });
    harness.run();
    harness.get_by_label("Prompt of 128 tokens: all of it leads, nothing is left to prune");
}

#[test]
fn phases_and_blocks_are_chosen_by_name() {
    let mut harness = panel(Theme::Dark, 340.0, probing());
    harness.run();
    harness.get_by_label("When, what, and how it probes").click();
    harness.run();
    harness.get_by_label("the prompt").click();
    harness.run();
    harness.get_by_label("channels only").click();
    harness.run();
    let settings = &harness.state().settings;
    assert_eq!(settings.phases, PrunePhases { prefill: true, decode: false });
    assert_eq!(settings.blocks, PruneBlocks { attention: false, mlp: true });
}

#[test]
fn settings_from_elsewhere_become_valid() {
    let broken = PruneConfig { tile: 0, probe_tokens: -1.0, ..probing() };
    let mut harness = panel(Theme::Dark, 340.0, broken);
    harness.run();
    assert!(harness.state().settings.validate().is_ok());
}

#[test]
fn a_pending_change_is_told() {
    let mut harness = panel(Theme::Dark, 340.0, probing());
    harness.state_mut().pending = true;
    harness.run();
    harness.get_by_label("Takes effect with the next prompt or re-probe");
}
