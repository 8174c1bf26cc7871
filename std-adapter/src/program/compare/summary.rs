//! The table of a study. All numbers are of the last epoch.

use super::{
    race::Row,
    report::{Entry, accuracy, held_out_loss, loss_cell, new_table, percent},
    study::Case,
};
use crate::program::text;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

fn loss(row: &Row) -> f64 {
    f64::from(row.loss)
}

/// Adam at the rate with the lowest median training loss.
pub(super) fn best(case: &Case) -> Option<&Entry> {
    let median = |entry: &Entry| entry.median(case.epochs, loss);
    case.adam.iter().min_by(|left, right| median(left).total_cmp(&median(right)))
}

/// A row a task.
pub(super) fn table(cases: &[Case]) -> Table {
    let header = [
        "task",
        "epochs",
        "EKFAC",
        "Adam",
        "Adam's best",
        "ratio",
        "worst seed",
        "held-out loss",
        "held-out accuracy",
        "not finite",
        "operations",
    ];
    let mut table = new_table(header.map(String::from).to_vec());
    table.add_rows(cases.iter().filter_map(|case| best(case).map(|adam| cells(case, adam))));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn cells(case: &Case, adam: &Entry) -> Vec<String> {
    let Case { task, epochs, ekfac, adam: rates } = case;
    let [ours, theirs] = [ekfac, adam].map(|entry| entry.median(*epochs, loss));
    let worst = [ekfac, adam].map(|entry| loss_cell(entry.worst(*epochs, loss)));
    let held_out = [held_out_loss(ekfac, *epochs), held_out_loss(adam, *epochs), lowest_held_out(case)];
    let shares = rates.iter().map(|entry| accuracy(entry, *epochs)).filter(|share| share.is_finite());
    let shares = [accuracy(ekfac, *epochs), accuracy(adam, *epochs), shares.fold(f64::NAN, f64::max)];
    let is_held_out = held_out_loss(ekfac, 0).is_finite();
    let failures = |entries: &[Entry]| {
        let runs = entries.iter().flat_map(|entry| &entry.runs);
        let failed = runs.clone().filter(|rows| rows.last().is_none_or(|row| !row.loss.is_finite()));
        format!("{} of {}", failed.count(), runs.count())
    };
    let work = |entry: &Entry| entry.median(*epochs, |row| row.operations as f64);
    vec![
        task.clone(),
        epochs.to_string(),
        loss_cell(ours),
        loss_cell(theirs),
        rate_cell(adam, rates),
        text::number(ours / theirs),
        worst.join(" / "),
        if is_held_out { held_out.map(loss_cell).join(" / ") } else { "-".into() },
        if shares.iter().any(|share| share.is_finite()) {
            shares.map(percent).join(" / ")
        } else {
            "-".into()
        },
        format!("{} / {}", failures(std::slice::from_ref(ekfac)), failures(rates)),
        format!("{:.1}", work(ekfac) / work(adam)),
    ]
}

/// The lowest median loss over the held-out examples that any of Adam's rates reaches.
fn lowest_held_out(case: &Case) -> f64 {
    case.adam.iter().map(|entry| held_out_loss(entry, case.epochs)).fold(f64::INFINITY, f64::min)
}

/// The setting, marked where it is the first or the last of the grid.
fn rate_cell(best: &Entry, rates: &[Entry]) -> String {
    let ends = [rates.first(), rates.last()];
    let at_end = ends.into_iter().flatten().any(|entry| entry.setting == best.setting);
    format!("{}{}", best.setting, if at_end { " (end of grid)" } else { "" })
}

/// How many tasks each leads, by the training and by the held-out loss.
pub(super) fn verdict(cases: &[Case]) -> String {
    let ahead = |pairs: Vec<(f64, f64)>| {
        let won = pairs.iter().filter(|(ours, theirs)| ours < theirs).count();
        format!("{won} of {}", pairs.len())
    };
    let with_best = || cases.iter().filter_map(|case| best(case).map(|adam| (case, adam)));
    let training = with_best()
        .map(|(case, adam)| (case.ekfac.median(case.epochs, loss), adam.median(case.epochs, loss)));
    let held_out = || with_best().filter(|(case, _)| held_out_loss(&case.ekfac, 0).is_finite());
    let same = held_out()
        .map(|(case, adam)| (held_out_loss(&case.ekfac, case.epochs), held_out_loss(adam, case.epochs)));
    let lowest = held_out().map(|(case, _)| (held_out_loss(&case.ekfac, case.epochs), lowest_held_out(case)));
    format!(
        "EKFAC ends lower on {} tasks by training loss; by held-out loss on {} against the same Adam, on {} against the lowest \
         of Adam's rates.",
        ahead(training.collect()),
        ahead(same.collect()),
        ahead(lowest.collect())
    )
}

/// The table with how to read it.
pub(super) fn markdown(title: &str, cases: &[Case]) -> String {
    let mut table = table(cases);
    table.load_style(ASCII_MARKDOWN);
    format!(
        "# {title}

{table}

{}

All numbers are of the last epoch. \"Adam\" is the one of nine rates with the lowest median training loss, chosen for each task by
the very runs that are shown; EKFAC has one setting for all. \"(end of grid)\": no rate beyond was tried, and it may be better.

* ratio: EKFAC's loss over Adam's; below 1, EKFAC ends lower.
* worst seed: the highest training loss of any seed, EKFAC / Adam.
* held-out loss and accuracy: EKFAC / Adam at that rate / the best that any of Adam's nine rates reaches.
* not finite: runs that ended so, EKFAC / Adam over all nine rates.
* operations: multiplications and additions that EKFAC counted, Adam's = 1, for the same number of epochs.

Every run is in `study.csv`, and its losses are drawn in `study.svg`.
",
        verdict(cases)
    )
}
