//! The SVG text of the charts: well formed, deterministic, and honest about what it leaves out.
//!
//! Each test names the mutants that it catches.

use ekfac_std::plot::{Axis, Panel, PlotError, Series, bar_chart, line_chart, spectrum_chart, two_panels};

/// Checks that tags nest, attributes are quoted, and no bare `&` or `<` is left.
fn assert_well_formed(svg: &str) {
    assert!(svg.starts_with("<svg "), "{}", &svg[..svg.len().min(80)]);
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bare > before {}", &rest[start..]);
        let end = start + rest[start..].find('>').expect("a closed tag");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "tag {tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    for (index, _) in svg.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
        assert!(known.iter().any(|entity| svg[index..].starts_with(entity)));
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    assert!(svg.chars().all(|letter| letter == '\n' || !letter.is_control()));
}

/// Coordinates of every point of every line of the drawing.
fn curves(svg: &str) -> Vec<Vec<(f64, f64)>> {
    let lines = svg.split("<polyline").skip(1);
    let points = lines.map(|tag| tag.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()));
    let pair = |text: &str| {
        let (x, y) = text.split_once(',').expect("x,y");
        (x.parse().expect("x"), y.parse().expect("y"))
    };
    points.map(|list| list.expect("points").split_whitespace().map(pair).collect()).collect()
}

fn texts(svg: &str) -> Vec<&str> {
    let elements = svg.split("<text").skip(1);
    elements.filter_map(|tag| tag.split(['>', '<']).nth(1)).map(str::trim).collect()
}

fn six_by_fifty() -> Panel {
    let names = ["EKFAC", "K-FAC", "a < b & c", "quote \" '", "AdamW", "SGD"];
    let series = names.iter().enumerate().map(|(index, name)| {
        let point = |k: i32| (f64::from(k), (-0.05 * f64::from(k) / (1.0 + index as f64)).exp());
        let points: Vec<(f64, f64)> = (0..50).map(point).collect();
        let band = points.iter().map(|&(x, y)| (x, 0.9 * y, 1.1 * y)).collect();
        Series { label: (*name).to_owned(), points, band: Some(band) }
    });
    let series = series.collect();
    Panel { x: Axis::linear("epoch"), y: Axis::logarithmic("loss & error"), series }
}

/// Mutants: labels not escaped, a label or a line or a band dropped, a clock or a hash in the text.
#[test]
fn six_lines_are_complete_and_deterministic() {
    let panel = six_by_fifty();
    let svg = line_chart("Loss <test>", &panel).expect("drawn");
    assert_well_formed(&svg);
    assert_eq!(svg, line_chart("Loss <test>", &panel).expect("drawn"));
    let all = texts(&svg);
    for text in ["Loss &lt;test&gt;", "epoch", "loss &amp; error", "a &lt; b &amp; c", "SGD"] {
        assert!(all.contains(&text), "{text} not in {all:?}");
    }
    let lines = curves(&svg);
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line.len() == 50));
    assert_eq!(svg.matches("<polygon").count(), 6);
    assert!(!svg.contains("left out"));
}

/// Mutants: y not turned over, the logarithm missing, a shared scale for both axes.
#[test]
fn a_logarithmic_axis_makes_an_exponential_straight() {
    let points = (0..=10).map(|k| (f64::from(k), 1000.0 * 0.5_f64.powi(k))).collect();
    let series = vec![Series::new("halving", points)];
    let panel = Panel { x: Axis::linear("step"), y: Axis::logarithmic("loss"), series };
    let svg = line_chart("Exponential", &panel).expect("drawn");
    let line = &curves(&svg)[0];
    assert_eq!(line.len(), 11);
    for pair in line.windows(3) {
        let (first, second) = (pair[1].1 - pair[0].1, pair[2].1 - pair[1].1);
        assert!(first > 0.0, "a falling loss goes down the page");
        assert!((first - second).abs() <= 2.0, "steps {first} and {second}");
    }
    let all = texts(&svg);
    for tick in ["1", "10", "100", "1000"] {
        assert!(all.contains(&tick), "{tick} not in {all:?}");
    }
}

/// Mutants: only powers of ten as ticks of a narrow axis.
#[test]
fn a_narrow_logarithmic_axis_has_round_ticks_between_decades() {
    let panel = Panel {
        x: Axis::linear("x"),
        y: Axis::logarithmic("y"),
        series: vec![Series::new("line", vec![(0.0, 0.25), (1.0, 4.0)])],
    };
    let svg = line_chart("Narrow", &panel).expect("drawn");
    let all = texts(&svg);
    for tick in ["0.5", "1", "2"] {
        assert!(all.contains(&tick), "{tick} not in {all:?}");
    }
}

/// Mutants: zero clamped to the axis instead of left out, a line drawn across a gap, a wrong count.
#[test]
fn points_without_a_place_break_the_line_and_are_counted() {
    let points = vec![
        (0.0, 8.0),
        (1.0, 4.0),
        (2.0, 0.0),
        (3.0, 2.0),
        (4.0, 1.0),
        (5.0, f64::NAN),
        (6.0, -3.0),
        (7.0, f64::INFINITY),
        (8.0, 0.5),
    ];
    let series = vec![Series::new("run", points)];
    let mut panel = Panel { x: Axis::linear("step"), y: Axis::logarithmic("loss"), series };
    let svg = line_chart("Gaps", &panel).expect("drawn");
    assert_well_formed(&svg);
    let note = "Points left out: 2 not finite, 2 not positive on a logarithmic axis";
    assert!(texts(&svg).contains(&note), "{:?}", texts(&svg));
    assert_eq!(curves(&svg).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(svg.matches("<circle").count(), 5);
    panel.y = Axis::linear("loss");
    let svg = line_chart("Gaps", &panel).expect("drawn");
    assert!(texts(&svg).contains(&"Points left out: 2 not finite"));
    assert_eq!(curves(&svg).iter().map(Vec::len).collect::<Vec<_>>(), [5]);
}

/// Mutants: a range of no width divided by, overflow of `max − min`, a dot for one point forgotten.
#[test]
fn degenerate_ranges_are_drawn() {
    let sets: [&[(f64, f64)]; 6] = [
        &[(3.0, 20.0)],
        &[(0.0, 0.0)],
        &[(0.0, 5e-324), (1.0, 1e-310)],
        &[(-1e308, -1e308), (1.0, 1.0)],
        &[(1e150, -1e150), (-1e150, 1e150)],
        &[(1.0, 7.0), (2.0, 7.0)],
    ];
    for points in sets {
        for y in [Axis::linear("y"), Axis::logarithmic("y")] {
            for x in [Axis::linear("x"), Axis::logarithmic("x")] {
                let series = vec![Series::new("set", points.to_vec())];
                match line_chart("Set", &Panel { x, y: y.clone(), series }) {
                    Ok(svg) => {
                        assert_well_formed(&svg);
                        assert!(svg.contains("<circle"), "{points:?}");
                    }
                    Err(error) => assert!(matches!(error, PlotError::NothingToDraw { .. })),
                }
            }
        }
    }
}

/// Mutants: an empty chart drawn, an error that does not say what to do.
#[test]
fn an_empty_chart_is_refused() {
    let empty = Panel::default();
    let error = line_chart("Nothing", &empty).expect_err("empty");
    assert_eq!(error, PlotError::NothingToDraw { title: "Nothing".to_owned(), left_out: 0 });
    assert!(error.to_string().contains("give at least one finite point"));
    let series = vec![Series::new("diverged", vec![(0.0, f64::NAN), (1.0, f64::INFINITY)])];
    let diverged = Panel { series, ..Panel::default() };
    let error = two_panels("Half", &six_by_fifty(), &diverged).expect_err("one panel empty");
    assert_eq!(error, PlotError::NothingToDraw { title: "Half".to_owned(), left_out: 2 });
    assert!(spectrum_chart("S", "eigenvalue", &[("A".to_owned(), vec![0.0, -1.0])]).is_err());
    assert!(bar_chart("B", "seconds", &[("a".to_owned(), f64::NAN)]).is_err());
    assert!(bar_chart("B", "seconds", &[]).is_err());
}

/// Mutants: colours by position in the panel instead of by label, one colour for two labels, labels
/// of one panel only.
#[test]
fn two_panels_share_one_key() {
    let left = six_by_fifty();
    let mut right = six_by_fifty();
    right.series.rotate_left(2);
    right.x = Axis::linear("seconds");
    let svg = two_panels("Both", &left, &right).expect("drawn");
    assert_well_formed(&svg);
    let strokes: Vec<&str> = svg
        .split("<polyline")
        .skip(1)
        .filter_map(|tag| tag.split("stroke=\"").nth(1).and_then(|rest| rest.split('"').next()))
        .collect();
    assert_eq!(strokes.len(), 12);
    for index in 0..6 {
        assert!(!strokes[..index].contains(&strokes[index]), "{strokes:?}");
        assert_eq!(strokes[6 + index], strokes[(index + 2) % 6]);
    }
    let all = texts(&svg);
    for text in ["EKFAC", "SGD", "epoch", "seconds"] {
        assert_eq!(all.iter().filter(|&&found| found == text).count(), 1, "{text}");
    }
}

/// Mutants: ascending order, NaN sorted among the values, a rank from zero.
#[test]
fn a_spectrum_falls() {
    let values = vec![1e-3, f64::NAN, 10.0, 0.0, 1.0, 1e-6];
    let svg = spectrum_chart("Spectrum", "eigenvalue", &[("A".to_owned(), values)]).expect("drawn");
    assert_well_formed(&svg);
    let lines = curves(&svg);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].len(), 4);
    assert!(lines[0].windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    let note = "Points left out: 1 not finite, 1 not positive on a logarithmic axis";
    assert!(texts(&svg).contains(&note));
}

/// Mutants: lengths not in proportion, a bar for a value that is not finite, control characters.
#[test]
fn bars_are_in_proportion() {
    let bars = [("a\u{0}<b>", 10.0), ("c", 5.0), ("d", f64::INFINITY), ("e", -2.5)];
    let bars = bars.map(|(label, value)| (label.to_owned(), value));
    let svg = bar_chart("Bars & co", "seconds", &bars).expect("drawn");
    assert_well_formed(&svg);
    let widths: Vec<f64> = svg
        .split("<rect")
        .skip(2)
        .filter_map(|tag| tag.split("width=\"").nth(1).and_then(|rest| rest.split('"').next()))
        .map(|width| width.parse().expect("a number"))
        .collect();
    assert_eq!(widths.len(), 3);
    assert!((widths[0] - 2.0 * widths[1]).abs() <= 4.0, "{widths:?}");
    assert!((widths[1] - 2.0 * widths[2]).abs() <= 4.0, "{widths:?}");
    let all = texts(&svg);
    for text in ["a &lt;b&gt;", "not finite", "−2.5", "10", "Points left out: 1 not finite"] {
        assert!(all.contains(&text), "{text} not in {all:?}");
    }
}

/// Mutants: no thinning, or thinning that loses a spike.
#[test]
fn a_long_run_is_thinned_without_losing_its_spike() {
    let mut points: Vec<(f64, f64)> = (0..200_000).map(|k| (f64::from(k), 1.0)).collect();
    points[123_456].1 = 2.0;
    let series = vec![Series::new("loss", points)];
    let panel = Panel { x: Axis::linear("step"), y: Axis::linear("loss"), series };
    let svg = line_chart("Long", &panel).expect("drawn");
    assert!(svg.len() <= 150_000, "{} bytes", svg.len());
    let line = &curves(&svg)[0];
    let base = line[0].1;
    assert_eq!(line.iter().filter(|point| point.1 < base - 1000.0).count(), 1);
}
