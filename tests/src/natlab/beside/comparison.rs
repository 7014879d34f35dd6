//! What came of the pairs by maker, as figures and as a table.

use std::fmt;
use std::time::Duration;

use super::Maker;
use crate::load::{Figure, Unit, percentile};
use crate::natlab::{Cell, Path, Wait};

/// One pair, as one maker's nodes crossed it.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What came of it. The time of the direct path is that of the first datagram that was seen to take it; none if that was
    /// only at the last look.
    pub cell: Cell,
    /// How long datagrams took there and back in the end.
    pub round_trips: Vec<Duration>,
}

/// All pairs of one maker.
#[derive(Debug, Clone)]
pub struct Crossing {
    /// Whose nodes they were.
    pub maker: Maker,
    /// In the same order for every maker.
    pub pairs: Vec<Pair>,
}

/// All makers, Writ first.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Each on a lab of its own.
    pub crossings: Vec<Crossing>,
}

impl Crossing {
    fn count(&self, path: Path) -> usize {
        self.pairs.iter().filter(|pair| pair.cell.path == path).count()
    }

    /// How many pairs went each way.
    fn counts(&self) -> impl Iterator<Item = Figure> {
        let counts = [
            (Path::Direct, "direct_pairs"),
            (Path::Relayed, "relayed_pairs"),
            (Path::None, "unconnected_pairs"),
        ];
        counts.into_iter().map(|(path, name)| {
            #[expect(clippy::cast_precision_loss, reason = "counts are small")]
            let count = self.count(path) as f64;
            Figure::new(format!("natlab_{}_{name}", self.maker), count, Unit::Pairs)
        })
    }

    /// How long it took, by what was waited for: the median and the worst but for one in a hundred, where the network loses
    /// nothing. None where there was nothing to wait for.
    fn times(&self) -> Vec<(String, Option<Figure>)> {
        let lossless = || self.pairs.iter().filter(|pair| !pair.cell.is_lossy());
        let round_trips = |path| {
            let pairs = lossless().filter(move |pair| pair.cell.path == path);
            pairs.flat_map(|pair| pair.round_trips.iter().copied()).collect::<Vec<_>>()
        };
        let waits = [
            ("first_byte", lossless().filter_map(|pair| pair.cell.first_byte).collect()),
            ("direct", lossless().filter_map(|pair| pair.cell.direct_after).collect()),
            ("direct_round_trip", round_trips(Path::Direct)),
            ("relayed_round_trip", round_trips(Path::Relayed)),
        ];
        let mut figures = Vec::new();
        for (wait, mut times) in waits {
            for (suffix, share) in [("p50", 0.5), ("p99", 0.99)] {
                let figure = (!times.is_empty()).then(|| {
                    Figure::time(
                        format!("natlab_{}_{wait}_{suffix}", self.maker),
                        percentile(&mut times, share),
                    )
                });
                figures.push((format!("{wait}_{suffix}"), figure));
            }
        }
        figures
    }
}

impl Comparison {
    /// The ratios of Writ to the others, and then what they are made of.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let mut ratios = Vec::new();
        if let Some((own, others)) = self.crossings.split_first() {
            for other in others {
                for ((name, own), (_, theirs)) in own.times().into_iter().zip(other.times()) {
                    let both = own.zip(theirs);
                    let name = format!("natlab_{name}_to_{}", other.maker);
                    ratios.extend(both.map(|(own, theirs)| own.beside(name, &theirs)));
                }
            }
        }
        for crossing in &self.crossings {
            ratios.extend(crossing.counts());
            ratios.extend(crossing.times().into_iter().filter_map(|(_, figure)| figure));
        }
        ratios
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}{:<10}", "from", "to")?;
        for crossing in &self.crossings {
            write!(f, "{:<10}{:>11}{:>13}   ", crossing.maker, "first byte", "direct after")?;
        }
        let rows = self.crossings.iter().map(|crossing| crossing.pairs.len()).max().unwrap_or(0);
        for row in 0..rows {
            let cells =
                self.crossings.iter().filter_map(|crossing| crossing.pairs.get(row)).map(|pair| &pair.cell);
            for (number, cell) in cells.enumerate() {
                let Cell { left, right, path, first_byte, direct_after } = cell;
                if number == 0 {
                    write!(f, "\n{left:<9}{right:<10}")?;
                }
                write!(f, "{path:<10}{:>11}{:>13}   ", Wait(*first_byte), Wait(*direct_after))?;
            }
        }
        for crossing in &self.crossings {
            let [direct, relayed, none] =
                [Path::Direct, Path::Relayed, Path::None].map(|path| crossing.count(path));
            let maker = crossing.maker;
            write!(f, "\n{maker}: {direct} direct, {relayed} relayed, {none} unconnected")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Other;
    use super::*;
    use crate::natlab::Access;

    fn pair(left: Access, path: Path, first_byte: u64, direct_after: Option<u64>) -> Pair {
        let [first_byte, round_trip] = [first_byte, 2].map(Duration::from_millis);
        let cell = Cell {
            left,
            right: Access::PortRestricted,
            path,
            first_byte: (path != Path::None).then_some(first_byte),
            direct_after: direct_after.map(Duration::from_millis),
        };
        Pair { cell, round_trips: if path == Path::None { Vec::new() } else { vec![round_trip] } }
    }

    fn comparison() -> Comparison {
        let own = [
            pair(Access::Public, Path::Direct, 10, Some(30)),
            pair(Access::Symmetric, Path::Relayed, 20, None),
            pair(Access::Lossy, Path::Direct, 4000, Some(9000)),
        ];
        let other = [
            pair(Access::Public, Path::Direct, 40, Some(60)),
            pair(Access::Symmetric, Path::None, 0, None),
            pair(Access::Lossy, Path::Relayed, 1, None),
        ];
        let crossing = |maker, pairs: [Pair; 3]| Crossing { maker, pairs: pairs.to_vec() };
        Comparison {
            crossings: vec![crossing(Maker::Writ, own), crossing(Maker::Other(Other::Tailscale), other)],
        }
    }

    #[test]
    fn figures_are_ratios_first_and_leave_out_what_was_lost_on_purpose() {
        let figures: Vec<_> = comparison().figures().iter().map(ToString::to_string).collect();
        assert_eq!(figures[0], "figure natlab_first_byte_p50_to_tailscale 0.25 x");
        for line in [
            "figure natlab_first_byte_p99_to_tailscale 0.50 x",
            "figure natlab_direct_p50_to_tailscale 0.50 x",
            "figure natlab_direct_round_trip_p50_to_tailscale 1.00 x",
            "figure natlab_writ_direct_pairs 2.00 pairs",
            "figure natlab_tailscale_direct_pairs 1.00 pairs",
            "figure natlab_tailscale_unconnected_pairs 1.00 pairs",
            "figure natlab_writ_first_byte_p99 20 ms",
            "figure natlab_writ_relayed_round_trip_p50 2.00 ms",
        ] {
            assert!(figures.iter().any(|figure| figure == line), "{line} is not in {figures:#?}");
        }
    }

    #[test]
    fn what_nobody_waited_for_has_no_figure() {
        let figures: Vec<_> = comparison().figures().iter().map(ToString::to_string).collect();
        let named = |name: &str| figures.iter().any(|figure| figure.contains(name));
        assert!(!named("natlab_tailscale_relayed_round_trip"), "{figures:#?}");
        assert!(!named("natlab_relayed_round_trip_p50_to_tailscale"), "{figures:#?}");
    }

    #[test]
    fn the_table_has_columns_for_each_maker() {
        let table = comparison().to_string();
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].contains("writ") && lines[0].contains("tailscale"), "{table}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            ["public", "port", "direct", "10.0", "ms", "30.0", "ms", "direct", "40.0", "ms", "60.0", "ms"]
        );
        assert!(lines[2].contains("none"), "{table}");
        assert_eq!(lines[4], "writ: 2 direct, 1 relayed, 0 unconnected");
        assert_eq!(lines[5], "tailscale: 1 direct, 1 relayed, 1 unconnected");
    }
}
