//! What each player contributes to the scores of an ensemble: Shapley values, exactly, in polynomial time.
//!
//! A *player* owns one or more columns; usually each column is a player of its own. Of the players, some are *present* and
//! have the row's values; what stands for the absent ones is the method:
//!
//! - [`Ensemble::explain_paths`], path-dependent: at a test of an absent player a tree answers with the mean of both branches,
//!   weighted by how many rows of the training set went there (Lundberg et al., *From local explanations to global
//!   understanding with explainable AI for trees*, 2020).
//! - [`Ensemble::explain_against`], interventional: the absent ones have the values of a row of a background, and the answer is
//!   the mean over the background.
//!
//! A leaf is reached with a product of one factor per player on its way. With each player present with probability t, the
//! factor is t·a + (1 − t)·z, where a is 1 if the row passes all the player's tests on the way and z stands for its absence; and
//! a player's Shapley value is the integral over t from 0 to 1 of (a − z) times the factors of the others (Owen 1972). That is
//! a polynomial, so Gauss and Legendre's rule integrates it exactly. With one background row the factors are t, 1 − t or 1,
//! and the integral is a number that depends on two counts alone.

use crate::tree::{Aggregate, Ensemble, Fork, Node};

/// The most tests between a root and a leaf.
pub const DEEPEST: usize = 512;

/// Nothing is added to a way.
const NOBODY: u32 = u32::MAX;

/// Points and weights that integrate polynomials from 0 to 1 exactly.
#[derive(Debug, Clone, Default)]
pub struct Quadrature {
    points: Vec<(f64, f64)>,
}

/// Integrals over t of t^(p − 1) · (1 − t)^q, by p and q.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    most: usize,
    /// Rows of `most` numbers, the first for p = 1.
    integrals: Vec<f64>,
}

/// Ways under way; kept between calls.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    stack: Vec<Turn>,
    way: Vec<Member>,
    active: Vec<(u32, f64, f64)>,
    integrals: Vec<f64>,
}

/// A node that is still to be visited, and what the way to it adds.
#[derive(Debug, Clone, Copy)]
struct Turn {
    node: u32,
    /// How long the way was before.
    len: usize,
    player: u32,
    /// The row goes there.
    present: f64,
    /// What stands for its absence goes there, or the share that does.
    absent: f64,
}

/// A player on a way.
#[derive(Debug, Clone, Copy)]
struct Member {
    player: u32,
    present: f64,
    absent: f64,
    /// A later member speaks for the same player.
    is_superseded: bool,
    /// The member that this one supersedes.
    supersedes: usize,
}

const NONE: usize = usize::MAX;

impl Quadrature {
    /// A rule that is exact for products of `players` factors, of which one is left out.
    #[inline(never)]
    pub fn for_players(players: usize) -> Self {
        let count = players.div_ceil(2).max(1);
        // The roots of Legendre's polynomial of this degree, from the largest on. Newton's method comes down from 1 to the
        // largest root of the polynomial without the roots that are known (Maehly 1954), then once more to the polynomial's own.
        let mut roots: Vec<f64> = Vec::with_capacity(count);
        let mut points = Vec::with_capacity(count);
        for _ in 0..count {
            let mut x = 1.0 + 1e-9;
            for _ in 0..200 {
                let (value, slope) = legendre(count, x);
                let known: f64 = roots.iter().map(|root| 1.0 / (x - root)).sum();
                let step = value / (slope - value * known);
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            let (value, slope) = legendre(count, x);
            x -= value / slope;
            let (_, slope) = legendre(count, x);
            roots.push(x);
            points.push((0.5 + 0.5 * x, 1.0 / ((1.0 - x * x) * slope * slope)));
        }
        Self { points }
    }
}

/// Legendre's polynomial and its derivative.
#[inline(never)]
fn legendre(degree: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for k in 2..=degree {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
    }
    (value, degree as f64 * (x * value - before) / (x * x - 1.0))
}

impl Counts {
    /// For ways with so many players.
    #[inline(never)]
    pub fn for_players(players: usize) -> Self {
        let most = players.max(1);
        let mut integrals = Vec::with_capacity(most * (most + 1));
        for p in 1..=most {
            // (p − 1)! q! / (p + q)!
            let mut integral = 1.0 / p as f64;
            for q in 0..=most {
                integrals.push(integral);
                integral *= (q + 1) as f64 / (p + q + 1) as f64;
            }
        }
        Self { most, integrals }
    }

    fn of(&self, p: usize, q: usize) -> f64 {
        p.checked_sub(1).and_then(|p| self.integrals.get(p * (self.most + 1) + q)).copied().unwrap_or(0.0)
    }
}

impl Ensemble<'_> {
    /// The most tests between a root and a leaf. `None` when that is more than [`DEEPEST`], when nodes belong to several trees
    /// or are reached in several ways (walking all ways could then take for ever), and for aggregates that do not add.
    #[inline(never)]
    pub fn depth(&self) -> Option<usize> {
        if !matches!(self.aggregate, Aggregate::Sum | Aggregate::Average) {
            return None;
        }
        let mut depths = vec![0_u16; self.nodes.len()];
        for &root in self.roots {
            let depth = depths.get_mut(root as usize)?;
            if std::mem::replace(depth, 1) != 0 {
                return None;
            }
        }
        let mut deepest = 0;
        for at in 0..self.nodes.len() {
            let depth = depths[at];
            let Some(first) = self.behind(at).filter(|_| depth > 0) else { continue };
            for behind in depths.get_mut(first..first + 2)? {
                if std::mem::replace(behind, depth + 1) != 0 {
                    return None;
                }
            }
            deepest = deepest.max(usize::from(depth));
            if deepest > DEEPEST {
                return None;
            }
        }
        Some(deepest)
    }

    /// Whether covers can weigh the branches: one per node, none negative, and some at every test.
    pub fn fits_covers(&self, covers: &[f32]) -> bool {
        covers.len() == self.nodes.len()
            && covers.iter().all(|&cover| cover >= 0.0 && cover.is_finite())
            && covers.iter().enumerate().all(|(at, &cover)| cover > 0.0 || self.behind(at).is_none())
    }

    /// What is multiplied with every vote.
    fn weight(&self) -> f64 {
        if self.aggregate == Aggregate::Average { 1.0 / self.roots.len() as f64 } else { 1.0 }
    }

    /// Adds the scores with nobody present, path-dependent, to `scores`.
    #[inline(never)]
    pub fn expect_paths(&self, covers: &[f32], scores: &mut [f64], scratch: &mut Scratch) {
        let weight = self.weight();
        for &root in self.roots {
            scratch.begin(root);
            while let Some(Turn { node, absent, .. }) = scratch.stack.pop() {
                if let Some(first) = self.behind(node as usize) {
                    for behind in [first + 1, first] {
                        let absent = absent * share(covers, behind, node as usize);
                        let node = behind as u32;
                        scratch.stack.push(Turn { node, len: 0, player: NOBODY, present: 1.0, absent });
                    }
                } else {
                    self.vote_for(&self.nodes[node as usize], weight * absent, scores);
                }
            }
        }
        self.add_base(scores);
    }

    /// Adds the scores of a row to `scores`.
    #[inline(never)]
    pub fn expect_row(&self, row: &[f32], weight: f64, scores: &mut [f64]) {
        let weight = weight * self.weight();
        for &root in self.roots {
            let mut at = root;
            let leaf = loop {
                match self.fork(at, row) {
                    Fork::Leaf(leaf) => break leaf,
                    Fork::Inner { first, takes_first, .. } => at = first + u32::from(!takes_first),
                }
            };
            self.vote_for(&leaf, weight, scores);
        }
    }

    /// Adds a leaf's votes, times `weight`, to one number per target.
    #[inline(never)]
    fn vote_for(&self, leaf: &Node, weight: f64, scores: &mut [f64]) {
        let (targets, votes) = self.votes(leaf);
        for (at, &vote) in votes.iter().enumerate() {
            let target = targets.get(at).map_or(at, |&target| target as usize);
            if let Some(score) = scores.get_mut(target) {
                *score += weight * f64::from(vote);
            }
        }
    }

    /// Adds what is added to the scores anyway.
    pub fn add_base(&self, scores: &mut [f64]) {
        scores.iter_mut().zip(self.base).for_each(|(score, &base)| *score += f64::from(base));
    }

    /// Adds to `out`, a row of targets per player, what each player of a row contributes, path-dependent. `players` has the
    /// player of each column. The ensemble must have a [`Ensemble::depth`] and must fit the covers.
    #[inline(never)]
    pub fn explain_paths(
        &self,
        covers: &[f32],
        players: &[u32],
        row: &[f32],
        rule: &Quadrature,
        out: &mut [f64],
        scratch: &mut Scratch,
    ) {
        let weight = self.weight();
        for &root in self.roots {
            scratch.begin(root);
            while let Some(turn) = scratch.next() {
                match self.fork(turn.node, row) {
                    Fork::Leaf(leaf) => {
                        scratch.integrate(rule);
                        let Scratch { active, integrals, .. } = &*scratch;
                        for (&(player, ..), &integral) in active.iter().zip(integrals) {
                            let own = &mut out[player as usize * self.targets..][..self.targets];
                            self.vote_for(&leaf, weight * integral, own);
                        }
                    }
                    Fork::Inner { column, first, takes_first } => {
                        let player = players[column as usize];
                        for second in [true, false] {
                            let behind = first + u32::from(second);
                            let present = f64::from(u8::from(takes_first != second));
                            let absent = share(covers, behind as usize, turn.node as usize);
                            scratch.push(behind, player, present, absent);
                        }
                    }
                }
            }
        }
    }

    /// Adds to `out`, a row of targets per player, what each player of a row contributes against one row of a background,
    /// times `weight`.
    #[expect(clippy::too_many_arguments, reason = "slices of one walk")]
    #[inline(never)]
    pub fn explain_against(
        &self,
        background: &[f32],
        weight: f64,
        players: &[u32],
        row: &[f32],
        counts: &Counts,
        out: &mut [f64],
        scratch: &mut Scratch,
    ) {
        let weight = weight * self.weight();
        for &root in self.roots {
            scratch.begin(root);
            while let Some(turn) = scratch.next() {
                let (column, first, takes_first) = match self.fork(turn.node, row) {
                    Fork::Leaf(leaf) => {
                        let way = &scratch.way;
                        let present = way.iter().filter(|member| member.present > 0.0).count();
                        let absent = way.len() - present;
                        if way.is_empty() {
                            continue;
                        }
                        let gain = weight * counts.of(present, absent);
                        let loss = -weight * counts.of(absent, present);
                        for member in way {
                            let part = if member.present > 0.0 { gain } else { loss };
                            let own = &mut out[member.player as usize * self.targets..][..self.targets];
                            self.vote_for(&leaf, part, own);
                        }
                        continue;
                    }
                    Fork::Inner { column, first, takes_first } => (column, first, takes_first),
                };
                let other = match self.fork(turn.node, background) {
                    Fork::Inner { takes_first, .. } => takes_first,
                    Fork::Leaf(_) => takes_first,
                };
                let player = players[column as usize];
                let of_row = first + u32::from(!takes_first);
                let of_other = first + u32::from(!other);
                let len = scratch.way.len();
                let straight = |node| Turn { node, len, player: NOBODY, present: 1.0, absent: 1.0 };
                let known = scratch.way.iter().find(|member| member.player == player);
                match known {
                    _ if of_row == of_other => scratch.stack.push(straight(of_row)),
                    Some(member) if member.present > 0.0 => scratch.stack.push(straight(of_row)),
                    Some(_) => scratch.stack.push(straight(of_other)),
                    None => {
                        scratch.stack.push(Turn { node: of_other, len, player, present: 0.0, absent: 1.0 });
                        scratch.stack.push(Turn { node: of_row, len, player, present: 1.0, absent: 0.0 });
                    }
                }
            }
        }
    }
}

/// The part of a node's training rows that went on to one of the nodes behind it.
fn share(covers: &[f32], behind: usize, node: usize) -> f64 {
    f64::from(covers[behind]) / f64::from(covers[node])
}

impl Scratch {
    fn begin(&mut self, root: u32) {
        self.stack.clear();
        self.way.clear();
        self.stack.push(Turn { node: root, len: 0, player: NOBODY, present: 1.0, absent: 1.0 });
    }

    /// Takes the next node and makes `way` the way to it.
    #[inline(never)]
    fn next(&mut self) -> Option<Turn> {
        let turn = self.stack.pop()?;
        while self.way.len() > turn.len {
            let Some(member) = self.way.pop() else { break };
            if let Some(earlier) = self.way.get_mut(member.supersedes) {
                earlier.is_superseded = false;
            }
        }
        if turn.player != NOBODY {
            let Turn { player, mut present, mut absent, .. } = turn;
            let same = |member: &Member| member.player == player && !member.is_superseded;
            let supersedes = self.way.iter().position(same).unwrap_or(NONE);
            if let Some(earlier) = self.way.get_mut(supersedes) {
                earlier.is_superseded = true;
                present *= earlier.present;
                absent *= earlier.absent;
            }
            self.way.push(Member { player, present, absent, is_superseded: false, supersedes });
        }
        Some(turn)
    }

    /// Notes a branch, unless nobody takes it.
    fn push(&mut self, node: u32, player: u32, present: f64, absent: f64) {
        let len = self.way.len();
        let earlier = self.way.iter().find(|member| member.player == player && !member.is_superseded);
        let (before, without) = earlier.map_or((1.0, 1.0), |member| (member.present, member.absent));
        if present * before > 0.0 || absent * without > 0.0 {
            self.stack.push(Turn { node, len, player, present, absent });
        }
    }

    /// The integral of each player on the way.
    #[inline(never)]
    fn integrate(&mut self, rule: &Quadrature) {
        self.active.clear();
        let active = self.way.iter().filter(|member| !member.is_superseded);
        self.active.extend(active.map(|member| (member.player, member.present, member.absent)));
        self.integrals.clear();
        self.integrals.resize(self.active.len(), 0.0);
        for &(t, weight) in &rule.points {
            let factor = |present: f64, absent: f64| t * present + (1.0 - t) * absent;
            let product = self
                .active
                .iter()
                .fold(weight, |product, &(_, present, absent)| product * factor(present, absent));
            for (integral, &(_, present, absent)) in self.integrals.iter_mut().zip(&self.active) {
                *integral += product / factor(present, absent) * (present - absent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Transform;
    use crate::tree::{Leaves, Test};

    /// Numbers that look random.
    struct Seed(u64);

    impl Seed {
        fn below(&mut self, bound: u32) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % u64::from(bound)) as u32
        }

        fn number(&mut self) -> f32 {
            (self.below(17) as f32 - 8.0) / 4.0
        }
    }

    const COLUMNS: usize = 5;

    struct Random {
        nodes: Vec<Node>,
        roots: Vec<u32>,
        covers: Vec<f32>,
        weights: Vec<f32>,
        base: Vec<f32>,
        targets: usize,
        aggregate: Aggregate,
    }

    impl Random {
        /// Trees with all kinds of tests.
        fn new(seed: &mut Seed) -> Self {
            let targets = 1 + seed.below(3) as usize;
            let (mut nodes, mut roots, mut covers) = (Vec::new(), Vec::new(), Vec::new());
            let mut leaves = 0;
            for _ in 0..1 + seed.below(4) {
                roots.push(nodes.len() as u32);
                let mut queue = vec![(0, 64.0_f32)];
                let mut next = 0;
                while let Some(&(depth, cover)) = queue.get(next) {
                    covers.push(cover);
                    if depth == 6 || cover < 2.0 || (depth > 0 && seed.below(5) == 0) {
                        nodes.push(Node::indexed_leaf(leaves));
                        leaves += 1;
                    } else {
                        let equality = seed.below(4) == 0;
                        let missing_first = seed.below(2) == 0;
                        let column = seed.below(COLUMNS as u32);
                        let test = Test { column, threshold: seed.number(), equality, missing_first };
                        nodes.push(Node::inner(test, (queue.len() - next) as u32, 3).unwrap());
                        // Sometimes no row of the training set went to a branch.
                        let first = seed.below(cover as u32 + 1) as f32;
                        queue.push((depth + 1, first));
                        queue.push((depth + 1, cover - first));
                    }
                    next += 1;
                }
            }
            let weights = (0..leaves as usize * targets).map(|_| seed.number()).collect();
            let base = (0..targets).map(|_| seed.number()).collect();
            let aggregate = if seed.below(2) == 0 { Aggregate::Sum } else { Aggregate::Average };
            Self { nodes, roots, covers, weights, base, targets, aggregate }
        }

        fn ensemble(&self) -> Ensemble<'_> {
            let ensemble = Ensemble {
                nodes: &self.nodes,
                roots: &self.roots,
                levels: &[],
                leaves: Leaves::Dense(&self.weights),
                columns: COLUMNS,
                feature_bits: 3,
                tests_equality: true,
                tracks_missing: true,
                targets: self.targets,
                aggregate: self.aggregate,
                base: &self.base,
                transform: Transform::None,
                choice: None,
            };
            ensemble.validate().unwrap();
            ensemble
        }
    }

    fn row(seed: &mut Seed) -> Vec<f32> {
        (0..COLUMNS).map(|_| if seed.below(6) == 0 { f32::NAN } else { seed.number() }).collect()
    }

    /// A tree's answer when only the players of `present` have the row's values.
    fn partial(
        ensemble: &Ensemble<'_>,
        covers: &[f32],
        players: &[u32],
        row: &[f32],
        present: u32,
        at: u32,
    ) -> Vec<f64> {
        match ensemble.fork(at, row) {
            Fork::Leaf(leaf) => {
                let mut votes = vec![0.0; ensemble.targets];
                ensemble.vote_for(&leaf, 1.0, &mut votes);
                votes
            }
            Fork::Inner { column, first, takes_first } => {
                if present >> players[column as usize] & 1 == 1 {
                    return partial(ensemble, covers, players, row, present, first + u32::from(!takes_first));
                }
                let mut sum = vec![0.0; ensemble.targets];
                for behind in [first, first + 1] {
                    let share = share(covers, behind as usize, at as usize);
                    // Nobody ever went there, not even to look.
                    if share > 0.0 {
                        let votes = partial(ensemble, covers, players, row, present, behind);
                        sum.iter_mut().zip(votes).for_each(|(sum, vote)| *sum += share * vote);
                    }
                }
                sum
            }
        }
    }

    /// Shapley's values by their definition, from the value of every coalition.
    fn brute_force(players: u32, targets: usize, value: impl Fn(u32) -> Vec<f64>) -> Vec<f64> {
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let values: Vec<Vec<f64>> = (0..1 << players).map(value).collect();
        let mut all = vec![0.0; players as usize * targets];
        for player in 0..players {
            for coalition in (0..1_u32 << players).filter(|coalition| coalition >> player & 1 == 0) {
                let size = coalition.count_ones();
                let weight = factorial(size) * factorial(players - size - 1) / factorial(players);
                for target in 0..targets {
                    let (with, without) =
                        (&values[(coalition | 1 << player) as usize], &values[coalition as usize]);
                    all[player as usize * targets + target] += weight * (with[target] - without[target]);
                }
            }
        }
        all
    }

    #[track_caller]
    fn assert_close(found: &[f64], want: &[f64]) {
        assert_eq!(found.len(), want.len());
        for (a, b) in found.iter().zip(want) {
            assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{found:?}, expected {want:?}");
        }
    }

    /// Each column for itself, and two pairs of columns as one player each.
    const GAMES: [([u32; COLUMNS], u32); 2] = [([0, 1, 2, 3, 4], 5), ([0, 1, 0, 2, 1], 3)];

    #[test]
    fn path_dependent_values_are_shapleys() {
        let mut seed = Seed(1);
        let mut scratch = Scratch::default();
        for _ in 0..60 {
            let random = Random::new(&mut seed);
            let ensemble = random.ensemble();
            assert!(ensemble.fits_covers(&random.covers));
            let rule = Quadrature::for_players(ensemble.depth().unwrap());
            let row = row(&mut seed);
            for (players, count) in GAMES {
                let value = |present: u32| {
                    let mut scores = vec![0.0; random.targets];
                    for &root in &random.roots {
                        let votes = partial(&ensemble, &random.covers, &players, &row, present, root);
                        scores.iter_mut().zip(votes).for_each(|(sum, vote)| *sum += vote * ensemble.weight());
                    }
                    ensemble.add_base(&mut scores);
                    scores
                };
                let mut found = vec![0.0; count as usize * random.targets];
                ensemble.explain_paths(&random.covers, &players, &row, &rule, &mut found, &mut scratch);
                assert_close(&found, &brute_force(count, random.targets, value));
                let mut base = vec![0.0; random.targets];
                ensemble.expect_paths(&random.covers, &mut base, &mut scratch);
                assert_close(&base, &value(0));
            }
        }
    }

    #[test]
    fn interventional_values_are_shapleys() {
        let mut seed = Seed(2);
        let mut scratch = Scratch::default();
        for _ in 0..60 {
            let random = Random::new(&mut seed);
            let ensemble = random.ensemble();
            let background: Vec<Vec<f32>> = (0..4).map(|_| row(&mut seed)).collect();
            let row = row(&mut seed);
            let counts = Counts::for_players(ensemble.depth().unwrap());
            for (players, count) in GAMES {
                let value = |present: u32| {
                    let mut scores = vec![0.0; random.targets];
                    for other in &background {
                        let mixed: Vec<f32> = (0..COLUMNS)
                            .map(|column| {
                                if present >> players[column] & 1 == 1 { row[column] } else { other[column] }
                            })
                            .collect();
                        ensemble.expect_row(&mixed, 0.25, &mut scores);
                    }
                    scores
                };
                let mut found = vec![0.0; count as usize * random.targets];
                for other in &background {
                    ensemble.explain_against(other, 0.25, &players, &row, &counts, &mut found, &mut scratch);
                }
                assert_close(&found, &brute_force(count, random.targets, value));
            }
        }
    }

    #[test]
    fn deep_trees_add_up() {
        // A chain that tests every column again and again.
        let columns = 64_usize;
        let (mut nodes, mut covers) = (Vec::new(), Vec::new());
        for depth in 0..300_u32 {
            let column = depth % columns as u32;
            let test = Test { column, threshold: (depth / 64) as f32, equality: false, missing_first: false };
            // The first branch is the next test, which lies behind the leaf of the second.
            nodes.push(if depth == 299 { Node::leaf(1.0) } else { Node::inner(test, 1, 6).unwrap() });
            covers.push(1000.0 - 3.0 * depth as f32);
            nodes.push(Node::leaf(depth as f32 * 0.01));
            covers.push(3.0);
        }
        // Each test stands two nodes behind the one before; its branches are that node's neighbours.
        let mut tree = vec![nodes[0]];
        let mut cover = vec![covers[0]];
        for depth in 1..300 {
            tree.push(Node::leaf(depth as f32 * 0.01));
            cover.push(3.0);
            tree.push(nodes[2 * depth]);
            cover.push(covers[2 * depth]);
        }
        // The walk goes on at the second branch, so rows that pass fail `x ≤ threshold`.
        let ensemble = Ensemble {
            nodes: &tree,
            roots: &[0],
            levels: &[],
            leaves: Leaves::One,
            columns,
            feature_bits: 6,
            tests_equality: false,
            tracks_missing: false,
            targets: 1,
            aggregate: Aggregate::Sum,
            base: &[],
            transform: Transform::None,
            choice: None,
        };
        ensemble.validate().unwrap();
        assert_eq!(ensemble.depth(), Some(299));
        let players: Vec<u32> = (0..columns as u32).collect();
        let rule = Quadrature::for_players(columns);
        let row: Vec<f32> = (0..columns).map(|column| (column % 7) as f32 - 1.0).collect();
        let mut scratch = Scratch::default();
        let (mut found, mut total) = (vec![0.0; columns], [0.0]);
        ensemble.explain_paths(&cover, &players, &row, &rule, &mut found, &mut scratch);
        ensemble.expect_paths(&cover, &mut total, &mut scratch);
        let mut score = [0.0];
        ensemble.expect_row(&row, 1.0, &mut score);
        let sum = found.iter().sum::<f64>() + total[0];
        assert!((sum - score[0]).abs() < 1e-12, "{sum} {score:?}");
    }

    #[test]
    fn the_rule_is_exact() {
        for players in [1, 2, 3, 8, 33, 200, 512] {
            let rule = Quadrature::for_players(players);
            for degree in [0, players / 2, players - 1] {
                let sum: f64 =
                    rule.points.iter().map(|(t, weight)| weight * libm::pow(*t, degree as f64)).sum();
                let want = 1.0 / (degree as f64 + 1.0);
                assert!(
                    (sum - want).abs() < 1e-13,
                    "{players} players, degree {degree}: {sum}, expected {want}"
                );
            }
        }
    }

    #[test]
    fn ways_that_meet_again_are_no_trees() {
        let test = Test { column: 0, threshold: 0.0, equality: false, missing_first: false };
        let leaf = Node::indexed_leaf(0);
        let nodes = [Node::inner(test, 1, 3).unwrap(), Node::inner(test, 1, 3).unwrap(), leaf, leaf, leaf];
        let random = Random {
            nodes: nodes.to_vec(),
            roots: vec![0],
            covers: vec![1.0; 5],
            weights: vec![0.0],
            base: vec![0.0],
            targets: 1,
            aggregate: Aggregate::Sum,
        };
        assert_eq!(random.ensemble().depth(), None);
        let least = Ensemble { aggregate: Aggregate::Min, ..random.ensemble() };
        assert_eq!(least.depth(), None);
    }
}
