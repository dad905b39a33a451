//! Expressions of nodes, wherever they stand, have their automata in the plan.

use lockgate_onnx::expressions::{self, AUTOMATA};
use lockgate_onnx::{Attribute, Node, Source};

use super::*;

fn graph_of(name: &str, graph: pb::GraphProto) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Graph.into();
    pb::AttributeProto { name: name.to_owned(), r#type, g: Some(graph), ..Default::default() }
}

fn body(
    nodes: Vec<pb::NodeProto>,
    input: Vec<pb::ValueInfoProto>,
    output: Vec<pb::ValueInfoProto>,
) -> pb::GraphProto {
    pb::GraphProto { name: "body".to_owned(), node: nodes, input, output, ..Default::default() }
}

/// A loop, whose body has branches in which expressions are matched, one of them with these attributes.
fn looped(attributes: &[pb::AttributeProto]) -> Vec<pb::NodeProto> {
    let branches = [("then_branch", &[text("pattern", "a+")][..]), ("else_branch", attributes)];
    let branches = branches.map(|(name, attributes)| {
        let nodes = vec![node("RegexFullMatch", &["x"], &["found"], attributes)];
        graph_of(name, body(nodes, vec![], vec![value("found", 9, &[-1])]))
    });
    let inside = body(
        vec![node("Identity", &["going"], &["go_on"], &[]), node("If", &["going"], &["match"], &branches)],
        vec![value("round", 7, &[]), value("going", 9, &[])],
        vec![value("go_on", 9, &[]), value("match", 9, &[-1])],
    );
    vec![node("Loop", &["trips", ""], &["y"], &[graph_of("body", inside)])]
}

fn import_texts(
    nodes: Vec<pb::NodeProto>,
    functions: Vec<pb::FunctionProto>,
    limits: &ImportLimits,
) -> Result<ImportedGraph, Vec<Refusal>> {
    let mut trips = integers("trips", &[3]);
    trips.dims = vec![];
    let no =
        pb::TensorProto { name: "no".to_owned(), data_type: 9, int32_data: vec![0], ..Default::default() };
    let words = pb::TensorProto {
        name: "words".to_owned(),
        dims: vec![2],
        data_type: 8,
        string_data: vec![b"ab".to_vec(), b"b".to_vec()],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: "graph".to_owned(),
        node: nodes,
        input: vec![value("x", 8, &[-1])],
        output: vec![value("y", 9, &[-1])],
        initializer: vec![trips, no, words],
        ..Default::default()
    };
    let opset = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.to_owned(), version };
    let model = pb::ModelProto {
        ir_version: 10,
        opset_import: vec![opset("", 20), opset("com.microsoft", 1), opset("own", 1)],
        graph: Some(graph),
        functions,
        ..Default::default()
    };
    import_graph(&OnnxModel::parse(&model.encode_to_vec(), limits).unwrap(), limits)
}

fn import(nodes: Vec<pb::NodeProto>) -> Result<ImportedGraph, Vec<Refusal>> {
    import_texts(nodes, vec![], &ImportLimits::default())
}

fn matching(pattern: &str) -> pb::NodeProto {
    node("RegexFullMatch", &["x"], &["y"], &[text("pattern", pattern)])
}

fn tokenizer(attributes: &[pb::AttributeProto]) -> pb::NodeProto {
    let attributes = [&[text("pad_value", ""), int("mark", 0)][..], attributes].concat();
    let node = node("Tokenizer", &["x"], &["y"], &attributes);
    pb::NodeProto { domain: "com.microsoft".to_owned(), ..node }
}

/// The nodes of a plan, those of graphs inside of nodes included.
fn all(source: &Source) -> Vec<&Node> {
    let mut nodes = Vec::new();
    for node in &source.nodes {
        nodes.push(node);
        for attribute in node.attributes.values() {
            if let Attribute::Graph(inner) = attribute {
                nodes.extend(all(inner));
            }
        }
    }
    nodes
}

/// Checks that the expressions of a plan are compiled; gives how they are written.
#[track_caller]
fn compiled(imported: &ImportedGraph) -> Vec<String> {
    let mut patterns = Vec::new();
    for node in all(&imported.plan.graph) {
        let mut want = Vec::new();
        for expression in expressions::of(node) {
            want.extend(expressions::compile(expression.pattern, 1 << 20).unwrap());
            patterns.push(expression.pattern.to_owned());
        }
        let have = match node.attributes.get(AUTOMATA) {
            Some(Attribute::Tensor(tables)) => tables.elements::<u8>().unwrap().to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(have, want, "{}", node.name);
    }
    patterns
}

#[test]
fn the_plan_holds_the_automata_of_expressions() {
    assert_eq!(compiled(&import(vec![matching("a+")]).unwrap()), ["a+"]);
    let separators = tokenizer(&[texts("separators", &["\\s+", ","])]);
    assert_eq!(compiled(&import(vec![separators]).unwrap()), ["\\s+", ","]);
    assert_eq!(compiled(&import(vec![tokenizer(&[text("tokenexp", "[a-z]+")])]).unwrap()), ["[a-z]+"]);
    // Characters need none.
    let characters = import(vec![tokenizer(&[texts("separators", &[""])])]).unwrap();
    assert!(!characters.plan.graph.nodes[0].attributes.contains_key(AUTOMATA));
}

#[test]
fn what_depends_on_no_request_is_matched_ahead() {
    let nodes = vec![
        node("RegexFullMatch", &["words"], &["known"], &[text("pattern", "a?b")]),
        node("RegexFullMatch", &["x"], &["found"], &[text("pattern", "a")]),
        node("And", &["known", "found"], &["y"], &[]),
    ];
    let imported = import(nodes).unwrap();
    assert_eq!(imported.plan.graph.nodes.len(), 2);
    assert_eq!(imported.arrays, [vec![1, 1]]);
}

#[test]
fn expressions_in_bodies_and_functions_are_compiled() {
    let imported = import(looped(&[text("pattern", "b+")])).unwrap();
    let nodes = all(&imported.plan.graph);
    let with: Vec<&&Node> = nodes.iter().filter(|node| node.operator == "RegexFullMatch").collect();
    assert_eq!(with.len(), 2);
    assert!(with.iter().all(|node| node.attributes.contains_key(AUTOMATA)));

    let reference = pb::AttributeProto { ref_attr_name: "word".to_owned(), ..text("pattern", "") };
    let function = pb::FunctionProto {
        name: Some("Matches".to_owned()),
        domain: "own".to_owned(),
        input: vec!["text".to_owned()],
        output: vec!["found".to_owned()],
        attribute: vec!["word".to_owned()],
        node: vec![node("RegexFullMatch", &["text"], &["found"], &[reference])],
        ..Default::default()
    };
    let call =
        pb::NodeProto { domain: "own".to_owned(), ..node("Matches", &["x"], &["y"], &[text("word", "c+")]) };
    assert_eq!(
        compiled(&import_texts(vec![call], vec![function], &ImportLimits::default()).unwrap()),
        ["c+"]
    );
}

#[track_caller]
fn refused(nodes: Vec<pb::NodeProto>, limits: &ImportLimits) -> String {
    let refusals = import_texts(nodes, vec![], limits).unwrap_err();
    let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert!(!refusal.hint.is_empty(), "{refusal}");
    refusal.to_string()
}

#[test]
fn expressions_that_cannot_be_used_are_named() {
    let check = |nodes: Vec<pb::NodeProto>, want: &[&str]| {
        let refusal = refused(nodes, &ImportLimits::default());
        assert!(want.iter().all(|part| refusal.contains(part)), "{refusal}");
    };
    let at = "attribute `pattern` of operator `RegexFullMatch` (node `the_regexfullmatch`";
    check(vec![matching("(")], &[at, "the expression `(` cannot be used: unclosed group"]);
    check(vec![matching("\\pL")], &[at, "Unicode classes are not supported"]);
    check(
        vec![matching("(a{1000}){1000}")],
        &[at, "too large an automaton; the limit `automaton_bytes` is 1048576", "raise the limit"],
    );
    let at = "attribute `separators` of operator `Tokenizer` (node `the_tokenizer`";
    check(vec![tokenizer(&[texts("separators", &[",", "["])])], &[at, "the expression `[`"]);
    check(vec![tokenizer(&[texts("separators", &["x*"])])], &[at, "`x*` matches the empty text"]);
    // Nothing is matched at the start of a text, but between letters and blanks.
    check(vec![tokenizer(&[texts("separators", &["\\b"])])], &[at, "matches the empty text"]);
    check(vec![tokenizer(&[text("tokenexp", "a**")])], &["attribute `tokenexp`", "needs a group"]);
    check(
        looped(&[text("pattern", "[a&&b]")]),
        &[
            "attribute `body` of operator `Loop`",
            "node `the_regexfullmatch` (RegexFullMatch): attribute `pattern`: ",
        ],
    );
}

/// A branch that is never taken may hold anything.
#[test]
fn what_never_runs_is_not_compiled() {
    let branch = |name: &str, pattern: &str| {
        let nodes = vec![node("RegexFullMatch", &["x"], &["found"], &[text("pattern", pattern)])];
        graph_of(name, body(nodes, vec![], vec![value("found", 9, &[-1])]))
    };
    let branches = [branch("then_branch", "("), branch("else_branch", "a")];
    assert!(import(vec![node("If", &["no"], &["y"], &branches)]).is_ok());
}

#[test]
fn automata_from_outside_are_not_believed() {
    let own = int(AUTOMATA, 1);
    let matching = node("RegexFullMatch", &["x"], &["y"], &[text("pattern", "a"), own.clone()]);
    let refusal = refused(vec![matching], &ImportLimits::default());
    assert!(refusal.contains("attribute `automata` of operator `RegexFullMatch`"), "{refusal}");
    let refusal = refused(looped(&[text("pattern", "b+"), own]), &ImportLimits::default());
    assert!(refusal.contains("the attribute `automata` is not supported"), "{refusal}");
}

#[test]
fn automata_are_bounded_one_by_one_and_together() {
    let nodes = || vec![tokenizer(&[texts("separators", &["a+", "b+", "a+"])])];
    let size = expressions::compile("a+", 1 << 20).unwrap().len();
    let sizes = u64::try_from(size * 3).unwrap();
    let limits = ImportLimits { automata_bytes: sizes, ..Default::default() };
    assert_eq!(compiled(&import_texts(nodes(), vec![], &limits).unwrap()).len(), 3);
    let refusal = refused(nodes(), &ImportLimits { automata_bytes: sizes - 1, ..limits.clone() });
    let want = format!(
        "the expression `a+` cannot be used: the automata of all expressions would take {sizes} bytes; the limit `automata_bytes` is {}",
        sizes - 1
    );
    assert!(refusal.contains(&want), "{refusal}");
    let limits = ImportLimits { automaton_bytes: size - 1, ..limits };
    let refusal = refused(vec![matching("a+")], &limits);
    let want = format!("too large an automaton; the limit `automaton_bytes` is {}", size - 1);
    assert!(refusal.contains(&want), "{refusal}");
}
