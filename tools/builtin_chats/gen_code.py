"""Programs with their output, queries with their result, traces of algorithms: all of it run here."""

import contextlib
import heapq
import io
import json
import sqlite3

from core import Random, chat, markdown_table

SNIPPETS = [
    ("What does this print and why?", "a = [1, 2, 3]\nb = a\nc = a[:]\nb.append(4)\nprint(a, b, c)\nprint(a is b, a is c)", "`b = a` gives the same list a second name, while `a[:]` makes a copy. The append is seen through `a` and `b`, not through `c`."),
    ("Predict the output:", "funcs = [lambda: i for i in range(3)]\nprint([f() for f in funcs])\nfuncs = [lambda i=i: i for i in range(3)]\nprint([f() for f in funcs])", "A lambda looks up `i` when it is called, and by then the loop has ended at 2. The default argument `i=i` is evaluated when the lambda is made, so each keeps its own value."),
    ("Write a generator for the primes with a sieve that grows, and show the first 15.", "def primes():\n    multiples = {}\n    n = 2\n    while True:\n        if n not in multiples:\n            yield n\n            multiples[n * n] = [n]\n        else:\n            for p in multiples.pop(n):\n                multiples.setdefault(n + p, []).append(p)\n        n += 1\n\nfrom itertools import islice\nprint(list(islice(primes(), 15)))", "The dictionary maps each upcoming composite to the primes that divide it. When `n` is reached, every such prime moves on to its next multiple. Memory grows with the primes found so far, not with a limit fixed in advance."),
    ("How do I group words by length in Python?", "from collections import defaultdict\n\nwords = 'the quick brown fox jumps over the lazy dog'.split()\ngroups = defaultdict(list)\nfor word in words:\n    groups[len(word)].append(word)\nfor length in sorted(groups):\n    print(length, groups[length])", "`defaultdict(list)` makes an empty list the first time a key is used. `itertools.groupby` would need the words sorted by length first, because it groups only neighbours."),
    ("Roman numerals both ways, please, with a test.", "VALUES = [(1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'), (100, 'C'), (90, 'XC'),\n          (50, 'L'), (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')]\n\ndef to_roman(n):\n    text = ''\n    for value, letters in VALUES:\n        count, n = divmod(n, value)\n        text += letters * count\n    return text\n\ndef from_roman(text):\n    digits = [dict((l, v) for v, l in VALUES if len(l) == 1)[c] for c in text]\n    return sum(-a if a < b else a for a, b in zip(digits, digits[1:] + [0]))\n\nassert all(from_roman(to_roman(n)) == n for n in range(1, 4000))\nprint(to_roman(1994), from_roman('MMXXIV'))", "`to_roman` takes the largest value that fits, greedily; the subtractive pairs are in the table. `from_roman` subtracts a digit that stands before a larger one. The assertion tries every number from 1 to 3999."),
    ("Implement run-length encoding.", "from itertools import groupby\n\ndef encode(text):\n    return [(char, len(list(run))) for char, run in groupby(text)]\n\ndef decode(pairs):\n    return ''.join(char * count for char, count in pairs)\n\npairs = encode('aaabccddddd')\nprint(pairs)\nprint(decode(pairs) == 'aaabccddddd')", "`groupby` yields each run of equal neighbours. Note that text without repetitions gets longer, so real formats mark runs only where they pay."),
    ("Show me how floating point surprises people, short demo.", "print(0.1 + 0.2 == 0.3)\nprint(f'{0.1 + 0.2:.17f}')\nimport math\nprint(math.isclose(0.1 + 0.2, 0.3))\nfrom decimal import Decimal\nprint(Decimal('0.1') + Decimal('0.2') == Decimal('0.3'))\nprint(1e16 + 1 == 1e16)\ntotal = 0.0\nfor _ in range(10):\n    total += 0.1\nprint(total, math.fsum([0.1] * 10))", "0.1, 0.2 and 0.3 have no finite binary expansion, so each is rounded, and the rounded sum is not the rounded 0.3. Compare with a tolerance; use `Decimal` or integer cents for money. Above 2^53 not even every integer can be represented. `fsum` keeps track of the lost digits."),
    ("Write a memoized recursive function for the number of ways to climb n stairs with steps of 1, 2 or 3.", "from functools import lru_cache\n\n@lru_cache(maxsize=None)\ndef ways(n):\n    if n < 0:\n        return 0\n    if n == 0:\n        return 1\n    return ways(n - 1) + ways(n - 2) + ways(n - 3)\n\nprint([ways(n) for n in range(1, 11)])\nprint(ways(100))", "The last step was 1, 2 or 3, so the counts of the three shorter stairs add up. Without the cache the run time would grow like the result itself; with it each value is computed once."),
    ("What is the output of this class example? Explain __repr__ and __eq__.", "class Point:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n    def __repr__(self):\n        return f'Point({self.x}, {self.y})'\n    def __eq__(self, other):\n        if not isinstance(other, Point):\n            return NotImplemented\n        return (self.x, self.y) == (other.x, other.y)\n\nprint(Point(1, 2), [Point(3, 4)])\nprint(Point(1, 2) == Point(1, 2), Point(1, 2) == (1, 2))\ntry:\n    {Point(1, 2)}\nexcept TypeError as error:\n    print(error)", "`__repr__` is used inside containers, and by `print` when there is no `__str__`. Returning `NotImplemented` lets the other operand try; if both decline, `==` falls back to identity, so it is False. A class that defines `__eq__` without `__hash__` becomes unhashable."),
    ("Flatten an arbitrarily nested list.", "def flatten(items):\n    for item in items:\n        if isinstance(item, list):\n            yield from flatten(item)\n        else:\n            yield item\n\nprint(list(flatten([1, [2, [3, [4]], 5], [[6]], []])))", "`yield from` hands on everything the inner generator produces. Testing for `list` rather than for \"iterable\" avoids endless recursion on strings, whose elements are strings again."),
    ("Text histogram of letter frequencies?", "from collections import Counter\n\ntext = 'she sells sea shells by the sea shore'\ncounts = Counter(c for c in text if c.isalpha())\nfor letter, count in sorted(counts.items(), key=lambda p: (-p[1], p[0])):\n    print(f'{letter} {count:2d} ' + '#' * count)", "The sort key orders by falling count and then by letter, so the output does not depend on the order of insertion."),
    ("Matrix transpose and rotation with zip:", "m = [[1, 2, 3], [4, 5, 6]]\nprint([list(r) for r in zip(*m)])\nprint([list(r) for r in zip(*m[::-1])])\nprint([list(r) for r in zip(*m)][::-1])", "`zip(*m)` pairs the first elements of all rows, then the second ones: the transpose. Reversing the rows before that rotates clockwise; reversing the result rotates counter-clockwise."),
    ("Validate brackets in a string with a stack.", "PAIRS = {')': '(', ']': '[', '}': '{'}\n\ndef balanced(text):\n    stack = []\n    for c in text:\n        if c in PAIRS.values():\n            stack.append(c)\n        elif c in PAIRS:\n            if not stack or stack.pop() != PAIRS[c]:\n                return False\n    return not stack\n\nfor text in ['(a[b]{c})', '(]', '((', '']:\n    print(repr(text), balanced(text))", "An opening bracket is pushed; a closing one must match what is on top. At the end nothing may be left. Each character is handled once, so the time is linear."),
    ("Explain try/except/else/finally by example.", "def parse(text):\n    try:\n        value = int(text)\n    except ValueError:\n        print('not a number')\n        value = None\n    else:\n        print('parsed')\n    finally:\n        print('done with', repr(text))\n    return value\n\nprint(parse('42'))\nprint(parse('x'))", "`else` runs when nothing was raised, and keeps the `try` block small; `finally` runs in both cases, even when the block returns or raises something else."),
    ("Binary search that returns the insertion point, compared with bisect.", "import bisect\n\ndef insertion_point(items, x):\n    low, high = 0, len(items)\n    while low < high:\n        middle = (low + high) // 2\n        if items[middle] < x:\n            low = middle + 1\n        else:\n            high = middle\n    return low\n\nitems = [2, 3, 5, 5, 8, 13]\nfor x in (1, 5, 6, 20):\n    print(x, insertion_point(items, x), bisect.bisect_left(items, x))", "The invariant: everything left of `low` is smaller than `x`, everything from `high` on is not. The interval shrinks in each round, so the loop ends, with `low == high` as the answer."),
    ("Caesar cipher with shift 3, encrypt and decrypt.", "def caesar(text, shift):\n    out = []\n    for c in text:\n        if c.isascii() and c.isalpha():\n            base = ord('A') if c.isupper() else ord('a')\n            out.append(chr((ord(c) - base + shift) % 26 + base))\n        else:\n            out.append(c)\n    return ''.join(out)\n\nsecret = caesar('Meet me at Noon!', 3)\nprint(secret)\nprint(caesar(secret, -3))", "Letters are numbered from 0 to 25 and moved modulo 26. Python's `%` is never negative for a positive divisor, so decrypting with −3 needs no special case. As encryption this is a toy: there are only 25 keys."),
    ("Use regular expressions to pull key=value pairs out of a log line.", "import re\n\nline = 'ts=2024-05-01T10:00:00 level=warn msg=\"disk almost full\" used=91%'\nfor key, quoted, bare in re.findall(r'(\\w+)=(?:\"([^\"]*)\"|(\\S+))', line):\n    print(f'{key:6}', quoted or bare)", "The pattern has two alternatives for the value: quoted text without quotes inside, or a run without spaces. `findall` returns one tuple of groups per match, and the unused group is empty."),
    ("What do these slices give?", "s = 'quantize'\nprint(s[2:5], s[:3], s[-3:], s[::2], s[::-1], s[10:], sep=' | ')\nl = list(range(6))\nl[1:4] = [9]\nprint(l)\ndel l[::2]\nprint(l)", "The end of a slice is excluded, negative indices count from the end, and slices out of range are simply empty. Assigning to a slice may change the length of the list."),
]
INTRO = ["It prints:", "Output:", "Running it gives:", "The output is"]


def python_programs(random):
    for question, code, explanation in SNIPPETS:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})
        result = f"{random.pick(INTRO)}\n\n```\n{output.getvalue().rstrip()}\n```\n\n{explanation}"
        given = question.rstrip().endswith(":") or question.startswith(("What does", "What is", "Predict", "What do", "Explain __"))
        program = f"```python\n{code}\n```"
        if given:
            yield chat("code-run", "en", f"{question}\n\n{program}", result)
        else:
            yield chat("code-run", "en", question, f"{program}\n\n{result}")


QUERIES = [
    ("en", "Which product brought in the most money?", "SELECT p.name, SUM(s.units * p.price) AS revenue\nFROM sales s JOIN products p ON p.id = s.product_id\nGROUP BY p.id ORDER BY revenue DESC, p.name LIMIT 3;", "Join each sale to its product, add up units times price, and sort. The query shows the top three; the first row is the answer."),
    ("en", "Show the running total of units sold, by date.", "SELECT day, units,\n       SUM(units) OVER (ORDER BY day, id ROWS UNBOUNDED PRECEDING) AS running\nFROM sales ORDER BY day, id LIMIT 8;", "A window function adds up all rows up to the current one without collapsing them. The `id` makes the order unambiguous when two sales fall on one day."),
    ("de", "Welche Städte haben mehr als 10 Stück insgesamt verkauft?", "SELECT city, SUM(units) AS stueck\nFROM sales GROUP BY city HAVING SUM(units) > 10 ORDER BY stueck DESC, city;", "`HAVING` filtert nach dem Gruppieren; in `WHERE` wäre die Summe noch nicht bekannt."),
    ("fr", "Quels produits n'ont jamais été vendus ?", "SELECT p.name FROM products p\nWHERE NOT EXISTS (SELECT 1 FROM sales s WHERE s.product_id = p.id)\nORDER BY p.name;", "`NOT EXISTS` garde les produits pour lesquels la sous-requête ne renvoie aucune ligne."),
    ("es", "¿Cuál es la venta más grande de cada ciudad?", "SELECT city, day, units FROM (\n  SELECT *, ROW_NUMBER() OVER (PARTITION BY city ORDER BY units DESC, day) AS n FROM sales\n) WHERE n = 1 ORDER BY city;", "`ROW_NUMBER` numera las ventas dentro de cada ciudad, de mayor a menor; basta con quedarse con la número 1."),
    ("zh", "统计每个月的销售笔数和总件数。", "SELECT strftime('%Y-%m', day) AS month, COUNT(*) AS orders, SUM(units) AS units\nFROM sales GROUP BY month ORDER BY month;", "先用 `strftime` 从日期中取出年月,再按月分组统计。"),
    ("ja", "商品カテゴリごとの平均価格を求めてください。", "SELECT category, COUNT(*) AS items, ROUND(AVG(price), 2) AS average\nFROM products GROUP BY category ORDER BY category;", "`GROUP BY category` でカテゴリごとにまとめ、`AVG` で平均を計算し、`ROUND` で小数第2位に丸めています。"),
    ("ru", "Покажи долю каждого города в общем числе проданных штук.", "SELECT city, SUM(units) AS units,\n       ROUND(100.0 * SUM(units) / (SELECT SUM(units) FROM sales), 1) AS percent\nFROM sales GROUP BY city ORDER BY units DESC, city;", "Подзапрос считает общее количество один раз. Множитель `100.0` нужен, чтобы деление не стало целочисленным."),
    ("en", "Pivot: units per city and category.", "SELECT s.city,\n  SUM(CASE WHEN p.category = 'tools' THEN s.units ELSE 0 END) AS tools,\n  SUM(CASE WHEN p.category = 'garden' THEN s.units ELSE 0 END) AS garden,\n  SUM(CASE WHEN p.category = 'kitchen' THEN s.units ELSE 0 END) AS kitchen\nFROM sales s JOIN products p ON p.id = s.product_id\nGROUP BY s.city ORDER BY s.city;", "One `CASE` per column lets through only the units of that category. Some databases have `PIVOT`, but this form works everywhere."),
    ("pt", "Quais pares de produtos da mesma categoria têm diferença de preço menor que 5?", "SELECT a.name, b.name AS other, ROUND(ABS(a.price - b.price), 2) AS diff\nFROM products a JOIN products b ON a.category = b.category AND a.id < b.id\nWHERE ABS(a.price - b.price) < 5 ORDER BY diff, a.name;", "É uma autojunção. A condição `a.id < b.id` evita comparar um produto consigo mesmo e listar cada par duas vezes."),
    ("ko", "상품별 판매 횟수를 보여 주세요. 팔리지 않은 상품은 0으로 표시해 주세요.", "SELECT p.name, COUNT(s.id) AS times\nFROM products p LEFT JOIN sales s ON s.product_id = p.id\nGROUP BY p.id ORDER BY times DESC, p.name;", "`LEFT JOIN`은 판매가 없는 상품도 남겨 둡니다. `COUNT(*)`가 아니라 `COUNT(s.id)`를 써야 NULL이 세어지지 않아 0이 됩니다."),
    ("it", "Giorni senza vendite tra il primo e il dieci gennaio?", "WITH RECURSIVE days(day) AS (\n  SELECT '2024-01-01' UNION ALL\n  SELECT date(day, '+1 day') FROM days WHERE day < '2024-01-10'\n)\nSELECT day FROM days WHERE day NOT IN (SELECT day FROM sales) ORDER BY day;", "La CTE ricorsiva genera il calendario; poi si tolgono i giorni presenti nelle vendite."),
]


def queries(random):
    names = [("hammer", "tools"), ("saw", "tools"), ("drill", "tools"), ("rake", "garden"), ("hose", "garden"), ("spade", "garden"), ("pan", "kitchen"), ("kettle", "kitchen"), ("whisk", "kitchen")]
    for number, (language, question, sql, explanation) in enumerate(QUERIES * 2):
        database = sqlite3.connect(":memory:")
        database.executescript("CREATE TABLE products(id INTEGER PRIMARY KEY, name TEXT, category TEXT, price REAL);\nCREATE TABLE sales(id INTEGER PRIMARY KEY, day TEXT, city TEXT, product_id INTEGER, units INTEGER);")
        products = [(i + 1, n, c, random.between(20, 400) / 10) for i, (n, c) in enumerate(random.sample(names, 6))]
        cities = random.sample(["Oslo", "Porto", "Kyoto", "Lima", "Graz", "Busan"], 3)
        sales = []
        for i in range(random.between(8, 14)):
            day = f"2024-{random.pick(['01', '01', '02'])}-{random.between(1, 12):02d}"
            sales.append((i + 1, day, random.pick(cities), random.between(1, 5), random.between(1, 9)))
        database.executemany("INSERT INTO products VALUES (?,?,?,?)", products)
        database.executemany("INSERT INTO sales VALUES (?,?,?,?,?)", sales)
        cursor = database.execute(sql)
        header, rows = [d[0] for d in cursor.description], cursor.fetchall()
        result = markdown_table(header, rows) if rows else "(0 rows)"
        data = f"products:\n{markdown_table(['id', 'name', 'category', 'price'], products)}\n\nsales:\n{markdown_table(['id', 'day', 'city', 'product_id', 'units'], sales)}"
        if number >= len(QUERIES):
            data = "```sql\n" + "\n".join(f"INSERT INTO products VALUES {p};" for p in products) + "\n" + "\n".join(f"INSERT INTO sales VALUES {s};" for s in sales) + "\n```"
        yield chat("sql-run", language, f"{data}\n\n{question}" if number % 3 else f"{question}\n\n{data}", f"```sql\n{sql}\n```\n\n{explanation}\n\n{result}")


SORTS = {
    "en": ("Sort {v} by {m}. Show the list after every pass.", "Start", "Pass {k}", "Sorted after {n} comparisons and {w} moves.", "insertion sort", "bubble sort"),
    "de": ("Sortiere {v} mit {m} und zeige die Liste nach jedem Durchgang.", "Anfang", "Durchgang {k}", "Sortiert nach {n} Vergleichen und {w} Verschiebungen.", "Insertionsort", "Bubblesort"),
    "zh": ("用{m}对 {v} 排序,写出每一趟之后的结果。", "初始", "第 {k} 趟", "排序完成:共比较 {n} 次,移动 {w} 次。", "插入排序", "冒泡排序"),
    "fr": ("Trie {v} avec le {m} et montre la liste après chaque passage.", "Départ", "Passage {k}", "Liste triée après {n} comparaisons et {w} déplacements.", "tri par insertion", "tri à bulles"),
    "es": ("Ordena {v} con {m} y muestra la lista tras cada pasada.", "Inicio", "Pasada {k}", "Ordenada tras {n} comparaciones y {w} movimientos.", "ordenación por inserción", "el método de la burbuja"),
    "ru": ("Отсортируй {v} методом «{m}», показывая список после каждого прохода.", "Начало", "Проход {k}", "Готово: {n} сравнений, {w} перемещений.", "вставками", "пузырёк"),
}


def sorts(random):
    for language, (ask, start, each, done, insertion, bubble) in SORTS.items():
        for method in (insertion, bubble):
            items = random.sample(range(1, 60), random.between(6, 9))
            lines, compared, moved, work = [f"{start}: {items}"], 0, 0, list(items)
            if method == insertion:
                for i in range(1, len(work)):
                    j = i
                    while j > 0:
                        compared += 1
                        if work[j - 1] <= work[j]:
                            break
                        work[j - 1], work[j] = work[j], work[j - 1]
                        moved, j = moved + 1, j - 1
                    lines.append(f"{each.format(k=i)}: {work}")
            else:
                for i in range(len(work) - 1):
                    swapped = False
                    for j in range(len(work) - 1 - i):
                        compared += 1
                        if work[j] > work[j + 1]:
                            work[j], work[j + 1], swapped, moved = work[j + 1], work[j], True, moved + 1
                    lines.append(f"{each.format(k=i + 1)}: {work}")
                    if not swapped:
                        break
            assert work == sorted(items)
            yield chat("trace-sort", language, ask.format(v=items, m=method), "```\n" + "\n".join(lines) + "\n```\n\n" + done.format(n=compared, w=moved))


def shortest_paths(random):
    for _ in range(7):
        nodes = "ABCDEFGH"[: random.between(5, 8)]
        edges = {}
        for i in range(1, len(nodes)):
            edges[(nodes[random.below(i)], nodes[i])] = random.between(1, 9)
        for _ in range(len(nodes)):
            a, b = sorted(random.sample(nodes, 2))
            edges.setdefault((a, b), random.between(1, 15))
        near = {n: [] for n in nodes}
        for (a, b), w in edges.items():
            near[a].append((b, w))
            near[b].append((a, w))
        distance, before, done, queue, lines = {nodes[0]: 0}, {}, set(), [(0, nodes[0])], []
        while queue:
            d, node = heapq.heappop(queue)
            if node in done:
                continue
            done.add(node)
            changes = []
            for other, w in sorted(near[node]):
                if other not in done and d + w < distance.get(other, 10**9):
                    distance[other], before[other] = d + w, node
                    heapq.heappush(queue, (d + w, other))
                    changes.append(f"{other} = {d + w}")
            lines.append([node, d, ", ".join(changes) or "–"])
        for (a, b), w in edges.items():
            assert abs(distance[a] - distance[b]) <= w
        goal = max(nodes, key=lambda n: (distance[n], n))
        path = [goal]
        while path[-1] in before:
            path.append(before[path[-1]])
        total = sum(edges[tuple(sorted(pair))] for pair in zip(path, path[1:]))
        assert total == distance[goal]
        yield chat("trace-graph", "en", f"Run Dijkstra from {nodes[0]} on this undirected graph and give the shortest path to {goal}.\n\n" + "\n".join(f"{a} -- {b}: {w}" for (a, b), w in sorted(edges.items())),
                   markdown_table(["Settled", "Distance", "Improved"], lines) + f"\n\nShortest path to {goal}: **{' → '.join(reversed(path))}**, length **{distance[goal]}**.\n\nA node is settled with its final distance, because all edges have positive length: any other way to it would have to pass through a node that is farther away.")


def edit_distances(random):
    pairs = [("kitten", "sitting"), ("saturday", "sunday"), ("intention", "execution"), ("flaw", "lawn"), ("gumbo", "gambol"), ("matrix", "metrics"), ("quantize", "quantity"), ("recalibrate", "celebrate")]
    for a, b in pairs:
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i in range(len(a) + 1):
            for j in range(len(b) + 1):
                if not i or not j:
                    table[i][j] = i + j
                else:
                    table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
        i, j, steps = len(a), len(b), []
        while i or j:
            if i and j and table[i][j] == table[i - 1][j - 1] + (a[i - 1] != b[j - 1]):
                if a[i - 1] != b[j - 1]:
                    steps.append(f"replace `{a[i - 1]}` (position {i}) by `{b[j - 1]}`")
                i, j = i - 1, j - 1
            elif i and table[i][j] == table[i - 1][j] + 1:
                steps.append(f"delete `{a[i - 1]}` (position {i})")
                i -= 1
            else:
                steps.append(f"insert `{b[j - 1]}` after position {i}")
                j -= 1
        assert len(steps) == table[-1][-1]
        rows = [[f"**{'ε' + a if not k else a[k - 1]}**" if k else "**ε**"] + row for k, row in enumerate(table)]
        yield chat("trace-dp", "en", random.pick([f"Levenshtein distance between \"{a}\" and \"{b}\"? Show the table.", f"Fill in the edit distance table for {a} → {b} and list the edits."]),
                   "Cell $(i, j)$ is the cost of turning the first $i$ letters of the one word into the first $j$ letters of the other:\n\n$$D_{i,j} = \\min(D_{i-1,j} + 1,\\; D_{i,j-1} + 1,\\; D_{i-1,j-1} + [a_i \\neq b_j])$$\n\n" + markdown_table(["", "ε"] + list(b), rows) + f"\n\nThe distance is **{table[-1][-1]}**. One cheapest way, positions in the first word:\n\n" + "\n".join(f"{k}. {s}" for k, s in enumerate(reversed(steps), 1)))


def bits(random):
    for _ in range(6):
        n = random.between(40, 60000)
        yield chat("code-bits", "en", random.pick([f"Convert {n} to binary, octal and hex.", f"{n} in base 2, 8 and 16, with the division steps for hex"]),
                   markdown_table(["Base", "Digits"], [[2, f"`{n:b}`"], [8, f"`{n:o}`"], [16, f"`{n:X}`"]]) + "\n\nHex by repeated division:\n\n```\n" + "\n".join(hex_steps(n)) + "\n```\n\nRead the remainders from the bottom up. In Python: `bin(n)`, `oct(n)`, `hex(n)`.")
    for text in ["é", "ß", "汉", "한", "ж", "😀", "ع", "हि"]:
        rows = [[f"U+{ord(c):04X}", f"{ord(c):b}", " ".join(f"{b:02X}" for b in c.encode()), " ".join(f"{b:08b}" for b in c.encode())] for c in text]
        units = len(text.encode("utf-16-le")) // 2
        yield chat("code-bits", "en", f"How is \"{text}\" encoded in UTF-8?", markdown_table(["Code point", "Binary", "UTF-8 (hex)", "UTF-8 (bits)"], rows) + f"\n\nA lead byte tells the length (`110` two bytes, `1110` three, `11110` four), and every following byte begins with `10`. The remaining bits, put together, are the code point. In all: {len(text)} code point{'s' if len(text) > 1 else ''}, {len(text.encode())} bytes in UTF-8, {units} UTF-16 code unit{'s' if units > 1 else ''}.")
    for _ in range(5):
        a, b = random.between(1, 255), random.between(1, 255)
        signed = lambda v: v - 256 if v > 127 else v
        rows = [["a", f"{a:08b}", a], ["b", f"{b:08b}", b], ["a & b", f"{a & b:08b}", a & b], ["a \\| b", f"{a | b:08b}", a | b], ["a ^ b", f"{a ^ b:08b}", a ^ b], ["~a", f"{~a & 255:08b}", ~a & 255], ["a << 2", f"{a << 2 & 255:08b}", a << 2 & 255], ["a >> 3", f"{a >> 3:08b}", a >> 3], ["a + b", f"{a + b & 255:08b}", a + b & 255]]
        yield chat("code-bits", "en", f"In C, uint8_t a = {a}, b = {b}. What are a&b, a|b, a^b, ~a, a<<2, a>>3 and a+b, each stored back into a uint8_t?", markdown_table(["Expression", "Bits", "Value"], rows, (2,)) + f"\n\nC computes in `int` and the conversion back keeps the low eight bits, so a + b = {a + b} becomes {a + b & 255}. Read as `int8_t`, a would be {signed(a)} and b {signed(b)} (two's complement).")


def hex_steps(n):
    while n:
        yield f"{n} / 16 = {n // 16} remainder {n % 16} ({n % 16:X})"
        n //= 16


def logs(random):
    """Access logs with the answer of a small pipeline; some long."""
    paths = ["/", "/login", "/api/items", "/api/items/7", "/static/app.js", "/search?q=lamp", "/cart", "/favicon.ico"]
    for size in (12, 12, 15, 15, 18, 20, 90, 110, 130):
        lines, by_status, by_path, slow = [], {}, {}, []
        for k in range(size):
            path, status, ms = random.pick(paths), random.pick([200] * 7 + [304, 404, 500]), random.between(2, 90) * random.pick([1, 1, 1, 12])
            lines.append(f"10:{k // 6:02d}:{k % 6 * 10 + random.below(9):02d} GET {path} {status} {ms}ms")
            by_status[status] = by_status.get(status, 0) + 1
            by_path.setdefault(path, []).append(ms)
            if ms > 300:
                slow.append(lines[-1])
        table = markdown_table(["Path", "Requests", "Mean ms", "Max ms"], [[f"`{p}`", len(v), f"{sum(v) / len(v):.1f}", max(v)] for p, v in sorted(by_path.items(), key=lambda i: (-len(i[1]), i[0]))], (1, 2, 3))
        statuses = "\n".join(f"{c:7d} {s}" for s, c in sorted(by_status.items(), key=lambda i: (-i[1], -i[0])))
        errors = by_status.get(500, 0)
        yield chat("shell-log-long" if size > 40 else "shell-log", "en", "Here is a piece of access.log. How many requests per status, which paths are slow, and how do I get this in the shell?\n\n```\n" + "\n".join(lines) + "\n```",
                   "```sh\nawk '{print $4}' access.log | sort | uniq -c | sort -rn\n```\n\n```\n" + statuses + "\n```\n\nPer path:\n\n" + table + f"\n\nSlower than 300 ms ({len(slow)}):\n\n```sh\nawk '{{t = $5; sub(/ms$/, \"\", t)}} t + 0 > 300' access.log\n```\n\n" + ("```\n" + "\n".join(slow) + "\n```" if slow else "None.") + f"\n\n{errors} of {size} requests ({errors / size * 100:.1f}%) failed with 500.")


def records(random):
    """CSV to JSON and back, with totals."""
    people = ["Ana", "Björn", "Chiara", "Đorđe", "Emre", "Fatima", "Gábor", "Hana", "Ines", "Jürgen", "Łukasz", "Mei", "Noé", "Olena", "Priya", "Søren"]
    things = ["lamp", "desk", "chair", "cable", "monitor", "keyboard", "mouse", "shelf"]
    for k in range(22):
        size = [4, 5, 6, 8, 9, 10][k % 6] if k < 19 else (60, 75, 90)[k - 19]
        rows = [dict(id=100 + i, customer=random.pick(people), item=random.pick(things), quantity=random.between(1, 6), price=random.between(3, 180) + 0.5 * random.below(2)) for i in range(size)]
        total = sum(r["quantity"] * r["price"] for r in rows)
        csv = "\n".join([",".join(rows[0])] + [",".join(str(v) for v in r.values()) for r in rows])
        listing = "[\n" + ",\n".join("  " + json.dumps(r, ensure_ascii=False) for r in rows) + "\n]"
        kind = "data-long" if size > 20 else "data"
        if k % 3 == 0 and size < 20:
            yield chat(kind, "en", f"Convert this CSV to a JSON array:\n\n{csv}", f"```json\n{listing}\n```", "And the total value?", f"Quantity times price, added up: " + " + ".join(f"{r['quantity'] * r['price']:g}" for r in rows) + f" = **{total:g}**.")
        elif k % 3 == 1 or size > 20:
            per = {}
            for r in rows:
                per.setdefault(r["customer"], [0, 0])
                per[r["customer"]][0] += r["quantity"]
                per[r["customer"]][1] += r["quantity"] * r["price"]
            table = markdown_table(["Customer", "Pieces", "Value"], [[c, n, f"{v:.2f}"] for c, (n, v) in sorted(per.items(), key=lambda i: (-i[1][1], i[0]))] + [["**Total**", sum(r["quantity"] for r in rows), f"{total:.2f}"]], (1, 2))
            best = max(per, key=lambda c: (per[c][1], c))
            yield chat(kind, "en", f"Summarize per customer as a table, largest value first.\n\n```json\n{listing}\n```", f"{table}\n\n{best} accounts for {per[best][1] / total * 100:.1f}% of the value.")
        else:
            dear = [r for r in rows if r["price"] > 80]
            yield chat(kind, "en", f"{csv}", "```json\n" + json.dumps({"orders": len(rows), "total": total, "over_80": [r["id"] for r in dear]}, indent=2) + "\n```", system="The user sends CSV. Reply only with JSON: the number of orders, the total of quantity * price, and the ids of rows whose price is above 80.")


def make():
    random = Random("code")
    for maker in (python_programs, queries, sorts, shortest_paths, edit_distances, bits, logs, records):
        yield from maker(random)
