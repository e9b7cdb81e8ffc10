// How the page looks: light and dark, wide and narrow, on paper.

let styleSheet: HTML = """
  :root {
    color-scheme: light dark;
    --paper: #fcfbf8; --raised: #f3f1eb; --ink: #1d2127; --muted: #59616c; --rule: #dcd8cf;
    --after: #1d5fbf; --before: #9b8f7f; --over: #c2352a; --clipped: #1c8a7a; --other: #8757b8;
    --load0: #c2352a; --load1: #f0a43c; --load2: #dbe7f6; --load3: #b0cdf0; --load4: #70a5e2;
    --load5: #2f70c6; --load6: #123d80;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --paper: #15181d; --raised: #1e2229; --ink: #e8e6e0; --muted: #a5acb6; --rule: #353b45;
      --after: #7db2ff; --before: #9a9183; --over: #f0695c; --clipped: #4bc0ae; --other: #bb94e4;
      --load0: #f0594b; --load1: #dd962f; --load2: #213349; --load3: #2e5280; --load4: #4a84c8;
      --load5: #88b9f4; --load6: #d6e7ff;
    }
  }
  * { box-sizing: border-box; }
  html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
  body {
    margin: 0; background: var(--paper); color: var(--ink);
    font: 1rem/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
    font-variant-numeric: tabular-nums lining-nums;
  }
  main, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
  header { padding-top: clamp(1.5rem, 5vw, 3.5rem); }
  .eyebrow { margin: 0; color: var(--muted); font-size: .875rem; }
  h1 { margin: .1rem 0 .6rem; font-size: clamp(1.7rem, 5vw, 2.6rem); line-height: 1.15; font-weight: 650;
    letter-spacing: -.015em; overflow-wrap: anywhere; text-wrap: balance; }
  h2 { margin: 0 0 .4rem; font-size: 1.35rem; line-height: 1.25; font-weight: 650; letter-spacing: -.005em; }
  h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; font-weight: 650; }
  section { margin-top: 2.75rem; padding-top: 1.75rem; border-top: 1px solid var(--rule); }
  .lead, .finding, .note { max-width: 44rem; text-wrap: pretty; }
  .lead { margin: 0; color: var(--muted); }
  .lead + .lead { margin-top: .6rem; }
  .finding { margin: 0 0 1.25rem; font-size: 1.0625rem; }
  .note { margin: 1rem 0 0; color: var(--muted); font-size: .875rem; }
  code, pre { font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; font-size: .875em;
    overflow-wrap: anywhere; }
  small { font-size: .8125rem; color: var(--muted); }
  .banner { margin: 1.25rem 0 0; padding: .7rem 1rem; border-left: 4px solid var(--load1); background: var(--raised); }
  .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

  .tiles { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 1.5rem;
    margin: 1.75rem 0 0; }
  .tiles div { border-top: 2px solid var(--ink); padding-top: .45rem; }
  .tiles dt { font-size: .8125rem; color: var(--muted); }
  .tiles dd { margin: 0; font-size: 1.6rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; }
  .tiles small { display: block; margin-top: .15rem; font-weight: 400; letter-spacing: 0; line-height: 1.35; }

  .scroll { overflow-x: auto; margin-top: 1.25rem; }
  .scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--after); outline-offset: 2px; }
  table { width: 100%; border-collapse: collapse; font-size: .875rem; }
  caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
  th, td { padding: .34rem .9rem .34rem 0; text-align: left; vertical-align: middle; border-bottom: 1px solid var(--rule); }
  th:last-child, td:last-child { padding-right: 0; }
  thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; line-height: 1.25; }
  tbody th { font-weight: 400; }
  tbody th small { display: block; line-height: 1.3; }
  .n { text-align: right; white-space: nowrap; }
  td:has(> .bar), td:has(> .spark) { min-width: 6.5rem; }
  table code { overflow-wrap: normal; }

  .bar { position: relative; display: block; height: .6rem; min-width: 5.5rem; background: var(--raised);
    box-shadow: inset 0 0 0 1px var(--rule); }
  .bar i { display: block; height: 100%; min-width: 1px; }
  .bar b { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px; background: var(--ink); }
  .stack { display: flex; min-width: 8rem; }
  i.after { background: var(--after); } i.over { background: var(--over); }
  .rows0 { --key: var(--before); } .rows1 { --key: var(--clipped); } .rows2 { --key: var(--after); }
  .rows3 { --key: var(--other); }
  .stack i { background: var(--key); }

  figure { margin: 1.25rem 0 0; }
  figcaption { font-size: .875rem; font-weight: 600; margin-bottom: .6rem; }
  .keys { font-weight: 400; color: var(--muted); }
  figcaption .keys { margin-left: .5rem; }
  thead .keys { display: block; }
  .key { display: inline-block; margin-right: .7rem; white-space: nowrap; font-size: .8125rem; }
  .key::before { content: ""; display: inline-block; width: .6rem; height: .6rem; margin-right: .35rem;
    border-radius: 50%; background: var(--key); }
  .key.box::before { border-radius: 1px; }
  .before { --key: var(--before); } .after { --key: var(--after); }
  .load0 { --key: var(--load0); } .load1 { --key: var(--load1); } .load2 { --key: var(--load2); }
  .load3 { --key: var(--load3); } .load4 { --key: var(--load4); } .load5 { --key: var(--load5); }
  .load6 { --key: var(--load6); }

  .plot { display: grid; grid-template: var(--height, 13rem) 1.4rem / 3.4rem minmax(0, 1fr); max-width: calc(var(--width, 100rem) + 3.4rem); }
  .plot svg { width: 100%; height: 100%; overflow: visible; display: block; }
  .y, .x { position: relative; color: var(--muted); font-size: .75rem; line-height: 1; }
  .y span { position: absolute; right: .6rem; transform: translateY(50%); white-space: nowrap; }
  .x { grid-column: 2; }
  .x span { position: absolute; top: .45rem; transform: translateX(-50%); white-space: nowrap; }
  .x .first { transform: none; }
  .x .last { transform: translateX(-100%); }
  .heat .y span { transform: translateY(-50%); }
  .axes { margin: .1rem 0 0 3.4rem; color: var(--muted); font-size: .75rem; }
  svg path { fill: none; vector-effect: non-scaling-stroke; }
  svg .grid { stroke: var(--rule); stroke-width: 1; }
  svg .axis { stroke: var(--muted); stroke-width: 1; }
  svg .reference { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 4 4; }
  svg .line { stroke: var(--key); stroke-width: 1.5; stroke-linejoin: round; }
  svg .line.before { stroke-dasharray: 5 3; }
  svg .dots { stroke: var(--key); stroke-width: 7; stroke-linecap: round; }
  .dense svg .dots { stroke-width: 4; }
  svg .gain { stroke: var(--rule); stroke-width: 2; }
  svg .gaps { stroke: var(--paper); stroke-width: 1; }
  .heat svg path[class^="load"] { fill: var(--key); }
  .heat svg { shape-rendering: crispEdges; }
  svg .hover { fill: transparent; }
  svg .hover:hover { fill: var(--ink); fill-opacity: .09; }
  .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0 2.5rem; }
  .pair .plot { --height: 9rem; }
  .spark { display: block; width: 100%; min-width: 6rem; height: 1.6rem; }
  .spark.bars rect { fill: var(--after); }
  .ends { display: flex; justify-content: space-between; color: var(--muted); font-size: .6875rem; line-height: 1.1; }
  .ends i { font-style: normal; }

  ul, ol { margin: .4rem 0 0; padding-left: 1.25rem; font-size: .9375rem; }
  li { margin: .2rem 0; overflow-wrap: anywhere; }
  li::marker { color: var(--muted); }
  #distance tbody th { overflow-wrap: anywhere; }
  #next li { margin-bottom: 1rem; }
  #next pre { margin-top: .35rem; }
  details { margin-top: 1.25rem; }
  summary { cursor: pointer; font-size: .9375rem; font-weight: 600; }
  details .scroll { margin-top: .6rem; }
  details caption { position: absolute; clip-path: inset(50%); }
  .facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 0 2.5rem; margin: .8rem 0 0;
    font-size: .875rem; }
  .facts div { display: flex; gap: 1rem; justify-content: space-between; padding: .3rem 0; border-bottom: 1px solid var(--rule); }
  .facts dt { color: var(--muted); white-space: nowrap; }
  .facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
  pre { margin: .8rem 0 0; padding: .75rem 1rem; background: var(--raised); white-space: pre-wrap; }
  pre code { font-size: 1em; }
  pre span { white-space: nowrap; }
  footer { margin-top: 3rem; padding-bottom: 3rem; color: var(--muted); font-size: .8125rem; }

  @media screen and (max-width: 44rem) {
    main, footer { padding: 0 1rem; }
    .wide { display: none; }
    .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
    .tiles dd { font-size: 1.35rem; }
    .plot { grid-template-columns: 2.9rem minmax(0, 1fr); }
    .axes { margin-left: 2.9rem; }
    .bar, .spark { min-width: 4rem; }
    td:has(> .bar), td:has(> .spark) { min-width: 4.2rem; }
    th, td { padding-right: .6rem; }
    tbody th small { display: none; }
    figcaption .keys { display: block; margin: .2rem 0 0; }
  }
  @media print {
    :root {
      color-scheme: light;
      --paper: #fff; --raised: #f3f1eb; --ink: #000; --muted: #444; --rule: #ccc;
      --after: #1d5fbf; --before: #9b8f7f; --over: #c2352a; --clipped: #1c8a7a; --other: #8757b8;
      --load0: #c2352a; --load1: #f0a43c; --load2: #dbe7f6; --load3: #b0cdf0; --load4: #70a5e2;
      --load5: #2f70c6; --load6: #123d80;
    }
    * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
    body { font-size: 10pt; }
    main, footer { max-width: none; padding: 0; }
    section { margin-top: 1.5rem; padding-top: 1rem; }
    figure, tr, .note, .pair { break-inside: avoid; }
    h2, .finding, summary, caption, thead { break-after: avoid; }
    .scroll { overflow: visible; }
    details::details-content { content-visibility: visible; display: block; height: auto; }
  }
  """
