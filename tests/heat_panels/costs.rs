//! What an answer cost.

use super::made;
use eframe::egui::Theme;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use secateur::app::heat::{CostInput, CostIntent, cost};
use secateur::protocol::{Comparison, Cost, Figures};

#[derive(Default)]
struct Panel {
    figures: Option<Figures>,
    comparison: Option<Comparison>,
    comparing: bool,
    unavailable: Option<&'static str>,
    intent: Option<CostIntent>,
}

fn panel(state: Panel) -> Harness<'static, Panel> {
    made::harness([340.0, 430.0], Theme::Dark, state, |ui, panel| {
        let input = CostInput {
            figures: panel.figures.as_ref(),
            comparison: panel.comparison.as_ref(),
            comparing: panel.comparing,
            unavailable: panel.unavailable,
        };
        panel.intent = cost(ui, &input).or(panel.intent);
    })
}

fn figures() -> Figures {
    let cost = |flops, flops_probe| Cost { flops, flops_dense: 10e9, flops_probe, bytes: 6e9, bytes_dense: 8e9 };
    Figures { prefilled: 128, decoded: 63, prefill: cost(9e9, 2.5e9), decode: cost(7e9, 0.5e9), ..Figures::default() }
}

#[test]
fn costs_are_told_in_numbers_beside_the_bars() {
    let comparison = Comparison {
        tokens: 64,
        dense_rate: 20.0,
        pruned_rate: Some(25.0),
        dense_perplexity: 3.21,
        pruned_perplexity: Some(4.5),
        complete: true,
        ..Comparison::default()
    };
    let mut harness = panel(Panel { figures: Some(figures()), comparison: Some(comparison), ..Panel::default() });
    harness.run();
    harness.get_by_label("7.50 G of 10.0 G FLOPs");
    harness.get_by_label("15.0 % more: the probe costs more than it saves");
    harness.get_by_label("Pruned runs at 1.25 times the speed of dense, on the same tokens.");
    harness.get_by_label("4.50");
    harness.snapshot("heat_cost");
}

#[test]
fn a_dense_run_is_asked_for_and_stopped() {
    let mut harness = panel(Panel { figures: Some(figures()), ..Panel::default() });
    harness.run();
    harness.get_by_label("Compare with dense").click();
    harness.run();
    assert_eq!(harness.state().intent, Some(CostIntent::Compare));
    let growing = Comparison { tokens: 12, dense_rate: 20.0, ..Comparison::default() };
    (harness.state_mut().comparing, harness.state_mut().comparison) = (true, Some(growing));
    harness.run_steps(2);
    harness.get_by_label("Answering densely: 12 tokens");
    harness.get_by_label("Stop").click();
    harness.run_steps(2);
    assert_eq!(harness.state().intent, Some(CostIntent::Stop));
}

#[test]
fn a_comparison_that_cannot_be_made_is_not_offered() {
    let unavailable = Some("The answer is still being written");
    let mut harness = panel(Panel { figures: Some(figures()), unavailable, ..Panel::default() });
    harness.run();
    harness.get_by_label("Compare with dense").click();
    harness.run();
    assert_eq!(harness.state().intent, None);
}
