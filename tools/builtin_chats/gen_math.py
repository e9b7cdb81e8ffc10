"""Mathematics with worked steps. Every number is computed, and checked by another way where there is one."""

from fractions import Fraction
from math import comb, gcd, isqrt

from core import Random, chat, markdown_table

# Word problems: language -> (question, answer) pairs. The names in braces are computed below.
SHOP, TRIP, FIELD, SALE = range(4)
STORIES = {
    "en": [
        ("Mia buys {a} notebooks at {p} euros each and {b} pens at {q} euros each. She pays with a {n}-euro note. How much change does she get?", "- Notebooks: {a} × {p} = {ap}\n- Pens: {b} × {q} = {bq}\n- Together: {ap} + {bq} = {s}\n- Change: {n} − {s} = {c}\n\nShe gets **{c} euros** back."),
        ("A train covers {d} km in {t} hours. It then slows down by {r} km/h. How long does it need for the next {e} km?", "The speed at first is {d} km ÷ {t} h = {v} km/h. Afterwards it is {v} − {r} = {w} km/h. For {e} km it needs {e} ÷ {w} = **{h} hours**."),
        ("A rectangular garden is {x} m long and {y} m wide. What are its area, its perimeter and its diagonal?", "- Area: {x} · {y} = **{area} m²**\n- Perimeter: 2 · ({x} + {y}) = **{per} m**\n- Diagonal: $\\sqrt{{{x}^2 + {y}^2}} = \\sqrt{{{sq}}} = {diag}$, so **{diag} m**"),
        ("A jacket costs {price} dollars and is reduced by {pc}%. At the till another {pd}% is taken off the reduced price. What is the final price, and is that the same as {ps}% off?", "After the first reduction: {price} × {f1} = {s1}. After the second: {s1} × {f2} = **{s2} dollars**. A single reduction of {ps}% would give {s3} dollars, so it is not the same: the second discount applies to a smaller amount. The total reduction is {tot}%."),
    ],
    "de": [
        ("Mia kauft {a} Hefte zu je {p} Euro und {b} Stifte zu je {q} Euro. Sie bezahlt mit einem {n}-Euro-Schein. Wie viel Rückgeld bekommt sie?", "- Hefte: {a} · {p} = {ap}\n- Stifte: {b} · {q} = {bq}\n- Zusammen: {ap} + {bq} = {s}\n- Rückgeld: {n} − {s} = {c}\n\nSie bekommt **{c} Euro** zurück."),
        ("Ein Zug legt {d} km in {t} Stunden zurück. Danach fährt er {r} km/h langsamer. Wie lange braucht er für die nächsten {e} km?", "Zuerst fährt er {d} km : {t} h = {v} km/h, danach {v} − {r} = {w} km/h. Für {e} km braucht er {e} : {w} = **{h} Stunden**."),
        ("Ein rechteckiger Garten ist {x} m lang und {y} m breit. Bestimme Fläche, Umfang und Diagonale.", "Fläche: {x} · {y} = **{area} m²**. Umfang: 2 · ({x} + {y}) = **{per} m**. Nach dem Satz des Pythagoras ist die Diagonale $\\sqrt{{{x}^2 + {y}^2}} = \\sqrt{{{sq}}} = {diag}$, also **{diag} m**."),
        ("Eine Jacke kostet {price} Euro und wird um {pc} % reduziert, an der Kasse gibt es auf den neuen Preis noch einmal {pd} %. Was kostet sie am Ende?", "Nach dem ersten Rabatt: {price} · {f1} = {s1}. Nach dem zweiten: {s1} · {f2} = **{s2} Euro**. Insgesamt sind das {tot} % Rabatt und nicht {ps} %."),
    ],
    "fr": [
        ("Léa achète {a} cahiers à {p} euros et {b} stylos à {q} euros. Elle paie avec un billet de {n} euros. Combien lui rend-on ?", "Cahiers : {a} × {p} = {ap}. Stylos : {b} × {q} = {bq}. Total : {ap} + {bq} = {s}. On lui rend {n} − {s} = **{c} euros**."),
        ("Un train parcourt {d} km en {t} heures, puis ralentit de {r} km/h. Combien de temps lui faut-il pour les {e} km suivants ?", "1. Vitesse initiale : {d} ÷ {t} = {v} km/h.\n2. Nouvelle vitesse : {v} − {r} = {w} km/h.\n3. Durée : {e} ÷ {w} = **{h} heures**."),
        ("Un terrain rectangulaire mesure {x} m sur {y} m. Calcule l'aire, le périmètre et la diagonale.", "- Aire : ${x} \\times {y} = {area}$ m²\n- Périmètre : $2({x} + {y}) = {per}$ m\n- Diagonale (théorème de Pythagore) : $\\sqrt{{{sq}}} = {diag}$ m"),
    ],
    "es": [
        ("Lucía compra {a} cuadernos a {p} euros y {b} bolígrafos a {q} euros. Paga con un billete de {n}. ¿Cuánto le devuelven?", "Los cuadernos cuestan {a} × {p} = {ap} euros y los bolígrafos {b} × {q} = {bq}. En total, {s} euros. Le devuelven {n} − {s} = **{c} euros**."),
        ("Un tren recorre {d} km en {t} horas y después reduce su velocidad en {r} km/h. ¿Cuánto tarda en recorrer los {e} km siguientes?", "Velocidad inicial: {d} / {t} = {v} km/h. Nueva velocidad: {v} − {r} = {w} km/h. Tiempo: {e} / {w} = **{h} horas**."),
        ("Un abrigo de {price} euros tiene un {pc} % de descuento y, sobre ese precio, otro {pd} %. ¿Cuál es el precio final?", "Primero: {price} × {f1} = {s1}. Después: {s1} × {f2} = **{s2} euros**. El descuento total es del {tot} %, no del {ps} %."),
    ],
    "pt": [
        ("Ana compra {a} cadernos por {p} reais cada e {b} canetas por {q} reais cada. Paga com uma nota de {n} reais. Qual é o troco?", "Cadernos: {a} × {p} = {ap}. Canetas: {b} × {q} = {bq}. Soma: {s}. Troco: {n} − {s} = **{c} reais**."),
        ("Um ônibus percorre {d} km em {t} horas e depois reduz a velocidade em {r} km/h. Quanto tempo leva para os próximos {e} km?", "A velocidade inicial é {d} ÷ {t} = {v} km/h e passa a {v} − {r} = {w} km/h. O tempo é {e} ÷ {w} = **{h} horas**."),
        ("Um terreno retangular tem {x} m por {y} m. Calcule a área, o perímetro e a diagonal.", "Área: {x} × {y} = **{area} m²**; perímetro: 2 × ({x} + {y}) = **{per} m**; diagonal: $\\sqrt{{{sq}}} = {diag}$, isto é, **{diag} m**."),
    ],
    "it": [
        ("Giulia compra {a} quaderni a {p} euro l'uno e {b} penne a {q} euro l'una. Paga con una banconota da {n} euro. Quanto riceve di resto?", "Quaderni: {a} × {p} = {ap}. Penne: {b} × {q} = {bq}. Totale: {s}. Resto: {n} − {s} = **{c} euro**."),
        ("Una giacca da {price} euro è scontata del {pc}% e poi ancora del {pd}% sul nuovo prezzo. Quanto costa alla fine?", "Dopo il primo sconto: {price} × {f1} = {s1}. Dopo il secondo: {s1} × {f2} = **{s2} euro**. Lo sconto complessivo è del {tot}%, non del {ps}%."),
    ],
    "zh": [
        ("小明买了 {a} 本笔记本,每本 {p} 元,又买了 {b} 支笔,每支 {q} 元。他付了 {n} 元,应找回多少钱?", "笔记本:{a} × {p} = {ap}(元)\n笔:{b} × {q} = {bq}(元)\n合计:{ap} + {bq} = {s}(元)\n找回:{n} − {s} = **{c}(元)**"),
        ("一列火车 {t} 小时行驶 {d} 千米,之后速度每小时减少 {r} 千米。接下来的 {e} 千米需要多长时间?", "原来的速度是 {d} ÷ {t} = {v} 千米/时,减速后是 {v} − {r} = {w} 千米/时,所以需要 {e} ÷ {w} = **{h} 小时**。"),
        ("一块长方形菜地长 {x} 米,宽 {y} 米。求面积、周长和对角线的长度。", "- 面积:${x}\\times{y}={area}$(平方米)\n- 周长:$2\\times({x}+{y})={per}$(米)\n- 对角线:$\\sqrt{{{x}^2+{y}^2}}=\\sqrt{{{sq}}}={diag}$(米)"),
        ("一件外套原价 {price} 元,先降价 {pc}%,再在降价后的基础上降 {pd}%。现价是多少?", "第一次降价后:{price} × {f1} = {s1} 元;第二次降价后:{s1} × {f2} = **{s2} 元**。总共降了 {tot}%,而不是 {ps}%。"),
    ],
    "ja": [
        ("1冊{p}円のノートを{a}冊、1本{q}円のペンを{b}本買い、{n}円を出しました。おつりはいくらですか。", "ノート:{p}×{a}={ap}円\nペン:{q}×{b}={bq}円\n合計:{ap}+{bq}={s}円\nおつり:{n}−{s}=**{c}円**"),
        ("電車が{d}kmを{t}時間で走り、その後は時速を{r}km落としました。次の{e}kmにかかる時間は何時間ですか。", "最初の速さは {d}÷{t}={v} より時速{v}km、その後は {v}−{r}={w} より時速{w}kmです。したがって {e}÷{w}=**{h}時間** かかります。"),
        ("縦{y}m、横{x}mの長方形の土地があります。面積、周の長さ、対角線の長さを求めてください。", "面積は {x}×{y}={area}、つまり **{area} m²**。周の長さは 2×({x}+{y})=**{per} m**。三平方の定理より、対角線は $\\sqrt{{{x}^2+{y}^2}}=\\sqrt{{{sq}}}={diag}$ で **{diag} m** です。"),
    ],
    "ko": [
        ("공책 {a}권을 한 권에 {p}원, 펜 {b}자루를 한 자루에 {q}원에 사고 {n}원을 냈습니다. 거스름돈은 얼마인가요?", "공책: {a} × {p} = {ap}원\n펜: {b} × {q} = {bq}원\n합계: {s}원\n거스름돈: {n} − {s} = **{c}원**"),
        ("기차가 {d}km를 {t}시간에 달린 뒤 시속을 {r}km 줄였습니다. 다음 {e}km를 가는 데 몇 시간이 걸리나요?", "처음 속력은 {d} ÷ {t} = {v}(km/h)이고, 줄인 뒤에는 {v} − {r} = {w}(km/h)입니다. 따라서 {e} ÷ {w} = **{h}시간** 걸립니다."),
        ("{price}원짜리 외투를 {pc}% 할인하고, 할인된 가격에서 다시 {pd}% 할인합니다. 최종 가격은 얼마인가요?", "첫 번째 할인 후: {price} × {f1} = {s1}원. 두 번째 할인 후: {s1} × {f2} = **{s2}원**. 전체 할인율은 {tot}%로, {ps}%가 아닙니다."),
    ],
    "ru": [
        ("Маша купила {a} тетрадей по {p} рублей и {b} ручек по {q} рублей и заплатила {n} рублей. Сколько сдачи она получит?", "1) {a} · {p} = {ap} (руб.) стоят тетради;\n2) {b} · {q} = {bq} (руб.) стоят ручки;\n3) {ap} + {bq} = {s} (руб.) стоит вся покупка;\n4) {n} − {s} = {c} (руб.) сдача.\n\n**Ответ:** {c} руб."),
        ("Поезд прошёл {d} км за {t} ч, а затем снизил скорость на {r} км/ч. За какое время он пройдёт следующие {e} км?", "Начальная скорость: {d} : {t} = {v} км/ч. Новая скорость: {v} − {r} = {w} км/ч. Время: {e} : {w} = {h} ч. **Ответ:** {h} ч."),
        ("Прямоугольный участок имеет длину {x} м и ширину {y} м. Найдите площадь, периметр и диагональ.", "Площадь: $S = {x} \\cdot {y} = {area}$ м². Периметр: $P = 2({x} + {y}) = {per}$ м. Диагональ: $d = \\sqrt{{{x}^2 + {y}^2}} = \\sqrt{{{sq}}} = {diag}$ м."),
    ],
    "ar": [
        ("اشترت سارة {a} دفاتر بسعر {p} دنانير للواحد و{b} أقلام بسعر {q} دنانير للواحد، ودفعت {n} دينارًا. كم الباقي؟", "- ثمن الدفاتر: {a} × {p} = {ap}\n- ثمن الأقلام: {b} × {q} = {bq}\n- المجموع: {ap} + {bq} = {s}\n- الباقي: {n} − {s} = **{c}**"),
        ("حديقة مستطيلة طولها {x} م وعرضها {y} م. احسب المساحة والمحيط والقطر.", "المساحة: {x} × {y} = **{area} م²**. المحيط: 2 × ({x} + {y}) = **{per} م**. ومن نظرية فيثاغورس القطر: $\\sqrt{{{x}^2 + {y}^2}} = \\sqrt{{{sq}}} = {diag}$، أي **{diag} م**."),
    ],
    "hi": [
        ("रीता ने {p} रुपये प्रति कॉपी की दर से {a} कॉपियाँ और {q} रुपये प्रति पेन की दर से {b} पेन खरीदे। उसने {n} रुपये दिए। उसे कितने रुपये वापस मिलेंगे?", "कॉपियाँ: {a} × {p} = {ap} रुपये\nपेन: {b} × {q} = {bq} रुपये\nकुल: {ap} + {bq} = {s} रुपये\nवापसी: {n} − {s} = **{c} रुपये**"),
        ("एक रेलगाड़ी {t} घंटे में {d} किमी चलती है। फिर उसकी चाल {r} किमी/घंटा कम हो जाती है। अगले {e} किमी में कितना समय लगेगा?", "पहली चाल = {d} ÷ {t} = {v} किमी/घंटा। नई चाल = {v} − {r} = {w} किमी/घंटा। समय = {e} ÷ {w} = **{h} घंटे**।"),
    ],
    "tr": [
        ("Ayşe tanesi {p} liradan {a} defter ve tanesi {q} liradan {b} kalem alıyor. {n} lira veriyor. Ne kadar para üstü alır?", "Defterler: {a} × {p} = {ap} lira. Kalemler: {b} × {q} = {bq} lira. Toplam: {s} lira. Para üstü: {n} − {s} = **{c} lira**."),
        ("Dikdörtgen biçimindeki bir bahçenin uzunluğu {x} m, genişliği {y} m'dir. Alanını, çevresini ve köşegenini bulun.", "Alan: {x} × {y} = **{area} m²**. Çevre: 2 × ({x} + {y}) = **{per} m**. Köşegen: $\\sqrt{{{x}^2 + {y}^2}} = \\sqrt{{{sq}}} = {diag}$, yani **{diag} m**."),
    ],
    "vi": [
        ("Lan mua {a} quyển vở giá {p} nghìn đồng một quyển và {b} cây bút giá {q} nghìn đồng một cây. Lan đưa {n} nghìn đồng. Hỏi được trả lại bao nhiêu?", "Tiền vở: {a} × {p} = {ap} (nghìn đồng)\nTiền bút: {b} × {q} = {bq} (nghìn đồng)\nTổng cộng: {s} (nghìn đồng)\nTiền trả lại: {n} − {s} = **{c} nghìn đồng**"),
        ("Một đoàn tàu đi {d} km trong {t} giờ, sau đó giảm tốc độ {r} km/h. Hỏi đi tiếp {e} km mất bao lâu?", "Vận tốc ban đầu: {d} : {t} = {v} (km/h). Vận tốc sau đó: {v} − {r} = {w} (km/h). Thời gian: {e} : {w} = **{h} giờ**."),
    ],
    "pl": [
        ("Ola kupiła {a} zeszytów po {p} zł i {b} długopisów po {q} zł. Zapłaciła banknotami za {n} zł. Ile reszty otrzyma?", "Zeszyty: {a} · {p} = {ap} zł. Długopisy: {b} · {q} = {bq} zł. Razem: {s} zł. Reszta: {n} − {s} = **{c} zł**."),
        ("Kurtka kosztuje {price} zł. Obniżono ją o {pc}%, a potem nową cenę o {pd}%. Ile kosztuje teraz?", "Po pierwszej obniżce: {price} · {f1} = {s1}. Po drugiej: {s1} · {f2} = **{s2} zł**. Łączna obniżka wynosi {tot}%, a nie {ps}%."),
    ],
    "nl": [
        ("Sanne koopt {a} schriften van {p} euro en {b} pennen van {q} euro. Ze betaalt met {n} euro. Hoeveel krijgt ze terug?", "Schriften: {a} × {p} = {ap}. Pennen: {b} × {q} = {bq}. Samen: {s}. Ze krijgt {n} − {s} = **{c} euro** terug."),
        ("Een trein rijdt {d} km in {t} uur en gaat daarna {r} km/u langzamer. Hoe lang doet hij over de volgende {e} km?", "Eerst: {d} / {t} = {v} km/u. Daarna: {v} − {r} = {w} km/u. Tijd: {e} / {w} = **{h} uur**."),
    ],
    "uk": [
        ("Оля купила {a} зошитів по {p} грн і {b} ручок по {q} грн. Вона дала {n} грн. Скільки решти отримає?", "Зошити: {a} · {p} = {ap} грн. Ручки: {b} · {q} = {bq} грн. Разом: {s} грн. Решта: {n} − {s} = **{c} грн**."),
    ],
    "id": [
        ("Dewi membeli {a} buku seharga {p} ribu rupiah per buku dan {b} pena seharga {q} ribu rupiah per pena. Ia membayar {n} ribu rupiah. Berapa kembaliannya?", "Buku: {a} × {p} = {ap} ribu\nPena: {b} × {q} = {bq} ribu\nTotal: {s} ribu\nKembalian: {n} − {s} = **{c} ribu rupiah**"),
    ],
}
TRIPLES = [(4, 3), (12, 5), (15, 8), (24, 7), (21, 20), (35, 12), (40, 9), (8, 6), (24, 10), (36, 15), (28, 21), (45, 28)]


def plain(value):
    """A terminating decimal as one writes it."""
    value = Fraction(value)
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
        assert digits < 9, value
    whole = abs(value) * 10**digits
    text = str(int(whole)).rjust(digits + 1, "0")
    text = text[:-digits] + "." + text[-digits:] if digits else text
    return ("-" if value < 0 else "") + text


def story_numbers(random):
    a, b = random.between(2, 9), random.between(3, 9)
    p, q = random.between(3, 19), random.between(1, 9)
    s = a * p + b * q
    n = next(x for x in (20, 50, 100, 200, 500) if x > s)
    t, v = random.between(2, 6), random.between(16, 30) * 5
    r = random.between(2, 8) * 5
    h = random.between(2, 5)
    x, y = random.pick(TRIPLES)
    scale = random.between(1, 3)
    x, y = x * scale, y * scale
    diag = isqrt(x * x + y * y)
    assert diag * diag == x * x + y * y
    price, pc, pd = random.between(4, 30) * 10, random.pick([10, 15, 20, 25, 30, 40]), random.pick([5, 10, 20])
    f1, f2 = Fraction(100 - pc, 100), Fraction(100 - pd, 100)
    numbers = dict(
        a=a, b=b, p=p, q=q, ap=a * p, bq=b * q, s=s, n=n, c=n - s, t=t, v=v, d=v * t, r=r, w=v - r, h=h, e=(v - r) * h,
        x=x, y=y, area=x * y, per=2 * (x + y), sq=x * x + y * y, diag=diag, price=price, pc=pc, pd=pd, ps=pc + pd,
        f1=f1, f2=f2, s1=price * f1, s2=price * f1 * f2, s3=price * Fraction(100 - pc - pd, 100),
        tot=100 * (1 - f1 * f2))
    return {name: plain(value) for name, value in numbers.items()}


def stories(random):
    for language, templates in STORIES.items():
        for question, answer in templates:
            numbers = story_numbers(random)
            yield chat("math-story", language, question.format(**numbers), answer.format(**numbers))
    # Some go on for a second problem.
    for language in ["en", "de", "zh", "ja", "ru", "fr", "es", "ko"]:
        turns = []
        for question, answer in random.sample(STORIES[language], 2):
            numbers = story_numbers(random)
            turns += [question.format(**numbers), answer.format(**numbers)]
        yield chat("math-story", language, *turns)


def term(coefficient, power, first, variable="x"):
    if coefficient == 0:
        return ""
    sign = ("-" if first else " - ") if coefficient < 0 else ("" if first else " + ")
    size = abs(coefficient)
    if isinstance(size, Fraction) and size.denominator != 1:
        number = f"\\frac{{{size.numerator}}}{{{size.denominator}}}"
    else:
        number = "" if size == 1 and power else str(int(size))
    body = "" if power == 0 else variable if power == 1 else f"{variable}^{{{power}}}" if power > 9 else f"{variable}^{power}"
    return sign + number + body


def polynomial(coefficients, variable="x"):
    """Lowest power first."""
    text = ""
    for power in range(len(coefficients) - 1, -1, -1):
        text += term(coefficients[power], power, not text, variable)
    return text or "0"


def evaluate(coefficients, x):
    return sum(c * x**k for k, c in enumerate(coefficients))


def latex(value):
    value = Fraction(value)
    if value.denominator == 1:
        return str(value.numerator)
    return ("-" if value < 0 else "") + f"\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


QUADRATIC = {
    "en": ("Solve the equation ${eq}$.", "The discriminant is", "so there are two solutions:", "so there is one double root:", "so there is no real solution; the complex ones are", "Check by Vieta: the sum of the roots is {sum} and the product is {product}."),
    "de": ("Löse die Gleichung ${eq}$.", "Die Diskriminante ist", "es gibt also zwei Lösungen:", "es gibt also eine doppelte Lösung:", "es gibt also keine reelle Lösung; die komplexen sind", "Probe nach Vieta: Summe {sum}, Produkt {product}."),
    "fr": ("Résous l'équation ${eq}$.", "Le discriminant vaut", "il y a donc deux solutions :", "il y a donc une racine double :", "il n'y a donc pas de solution réelle ; les solutions complexes sont", "Vérification : la somme des racines est {sum} et leur produit {product}."),
    "es": ("Resuelve la ecuación ${eq}$ paso a paso.", "El discriminante es", "así que hay dos soluciones:", "así que hay una raíz doble:", "así que no hay solución real; las complejas son", "Comprobación: la suma de las raíces es {sum} y el producto {product}."),
    "pt": ("Resolva a equação ${eq}$.", "O discriminante é", "portanto há duas soluções:", "portanto há uma raiz dupla:", "portanto não há solução real; as complexas são", "Verificação: soma das raízes {sum}, produto {product}."),
    "zh": ("解方程 ${eq}$。", "判别式为", "因此有两个解:", "因此有一个重根:", "因此没有实数解,复数解为", "验证:两根之和为 {sum},两根之积为 {product}。"),
    "ja": ("方程式 ${eq}$ を解いてください。", "判別式は", "したがって解は二つあります:", "したがって重解を持ちます:", "したがって実数解はありません。複素数解は次のとおりです:", "検算:解と係数の関係より、和は {sum}、積は {product} です。"),
    "ko": ("방정식 ${eq}$ 을 풀어 주세요.", "판별식은", "따라서 두 실근이 있습니다:", "따라서 중근을 가집니다:", "따라서 실근이 없고 허근은 다음과 같습니다:", "검산: 두 근의 합은 {sum}, 곱은 {product}입니다."),
    "ru": ("Решите уравнение ${eq}$.", "Дискриминант равен", "значит, есть два корня:", "значит, корень один (кратности два):", "значит, действительных корней нет; комплексные корни:", "Проверка по теореме Виета: сумма корней {sum}, произведение {product}."),
    "it": ("Risolvi l'equazione ${eq}$.", "Il discriminante è", "quindi ci sono due soluzioni:", "quindi c'è una radice doppia:", "quindi non ci sono soluzioni reali; quelle complesse sono", "Verifica: la somma delle radici è {sum}, il prodotto {product}."),
    "tr": ("${eq}$ denklemini çözün.", "Diskriminant", "bu nedenle iki çözüm vardır:", "bu nedenle çift katlı bir kök vardır:", "bu nedenle gerçek çözüm yoktur; karmaşık çözümler şunlardır:", "Sağlama: köklerin toplamı {sum}, çarpımı {product}."),
    "pl": ("Rozwiąż równanie ${eq}$.", "Wyróżnik wynosi", "są więc dwa rozwiązania:", "jest więc jeden pierwiastek podwójny:", "nie ma więc rozwiązań rzeczywistych; zespolone to", "Sprawdzenie: suma pierwiastków {sum}, iloczyn {product}."),
    "vi": ("Giải phương trình ${eq}$.", "Biệt thức là", "nên phương trình có hai nghiệm:", "nên phương trình có nghiệm kép:", "nên phương trình không có nghiệm thực; nghiệm phức là", "Kiểm tra: tổng hai nghiệm là {sum}, tích là {product}."),
    "ar": ("حل المعادلة ${eq}$.", "المميز هو", "إذن للمعادلة حلان:", "إذن للمعادلة جذر مكرر:", "إذن لا يوجد حل حقيقي، والحلان المركبان هما", "التحقق: مجموع الجذرين {sum} وحاصل ضربهما {product}."),
    "hi": ("समीकरण ${eq}$ हल कीजिए।", "विविक्तकर है", "इसलिए दो हल हैं:", "इसलिए एक दोहरा मूल है:", "इसलिए कोई वास्तविक हल नहीं है; सम्मिश्र हल हैं", "जाँच: मूलों का योग {sum} और गुणनफल {product} है।"),
}


def quadratics(random):
    for language, (question, disc, two, one, none, check) in QUADRATIC.items():
        for shape in random.sample(["rational", "surd", "double", "complex"], 2):
            while True:
                a, b, c = random.pick([1, 1, 2, 3]), random.between(-12, 12), random.between(-20, 20)
                if shape == "double":
                    root = random.pick([-5, -4, -3, -2, 2, 3, 4, 5])
                    b, c = -2 * a * root, a * root * root
                d = b * b - 4 * a * c
                square = d >= 0 and isqrt(d) ** 2 == d
                kind = "double" if d == 0 else "complex" if d < 0 else "rational" if square else "surd"
                if kind == shape and b and c:
                    break
            eq = polynomial([c, b, a]) + " = 0"
            text = f"{disc}\n\n$$D = b^2 - 4ac = ({b})^2 - 4 \\cdot {a} \\cdot ({c}) = {d},$$\n\n"
            if shape == "rational":
                roots = [Fraction(-b + sign * isqrt(d), 2 * a) for sign in (1, -1)]
                assert all(a * x * x + b * x + c == 0 for x in roots)
                text += f"{two}\n\n$$x_{{1,2}} = \\frac{{{-b} \\pm {isqrt(d)}}}{{{2 * a}}}, \\qquad x_1 = {latex(roots[0])}, \\quad x_2 = {latex(roots[1])}.$$"
            elif shape == "double":
                root = Fraction(-b, 2 * a)
                assert a * root * root + b * root + c == 0
                text += f"{one}\n\n$$x = -\\frac{{b}}{{2a}} = {latex(root)}.$$"
            else:
                outside, inside = 1, abs(d)
                for k in range(isqrt(inside), 1, -1):
                    if inside % (k * k) == 0:
                        outside, inside = k, inside // (k * k)
                        break
                common = gcd(gcd(b, outside), 2 * a)
                top, out, bottom = -b // common, outside // common, 2 * a // common
                surd = ("" if out == 1 else str(out)) + ("" if inside == 1 else f"\\sqrt{{{inside}}}")
                surd = (surd or "1") + (" i" if d < 0 else "") if surd else "i"
                value = f"{top} \\pm {surd}" if bottom == 1 else f"\\frac{{{top} \\pm {surd}}}{{{bottom}}}"
                text += f"{two if d > 0 else none}\n\n$$x_{{1,2}} = {value}.$$"
            text += "\n\n" + check.format(sum=f"${latex(Fraction(-b, a))}$", product=f"${latex(Fraction(c, a))}$") if shape != "double" else ""
            yield chat("math-quadratic", language, question.format(eq=eq), text)


GAUSS = {
    "en": ("Solve by Gaussian elimination and show every step:", "The augmented matrix:", "Row {i} minus ${f}$ times row {j}:", "Swap rows {i} and {j}:", "Back substitution:", "Solution:"),
    "de": ("Löse das Gleichungssystem mit dem Gauß-Verfahren, mit allen Schritten:", "Die erweiterte Matrix:", "Zeile {i} minus ${f}$ mal Zeile {j}:", "Zeilen {i} und {j} tauschen:", "Rückwärts einsetzen:", "Lösung:"),
    "fr": ("Résous ce système par la méthode de Gauss, étape par étape :", "La matrice augmentée :", "Ligne {i} moins ${f}$ fois la ligne {j} :", "On échange les lignes {i} et {j} :", "Remontée :", "Solution :"),
    "es": ("Resuelve el sistema por eliminación de Gauss:", "La matriz ampliada:", "Fila {i} menos ${f}$ por la fila {j}:", "Se intercambian las filas {i} y {j}:", "Sustitución hacia atrás:", "Solución:"),
    "zh": ("用高斯消元法解下列方程组,写出每一步:", "增广矩阵:", "第 {i} 行减去第 {j} 行的 ${f}$ 倍:", "交换第 {i} 行与第 {j} 行:", "回代:", "解:"),
    "ja": ("次の連立方程式を掃き出し法で解いてください。途中の式も示してください。", "拡大係数行列:", "第{i}行から第{j}行の ${f}$ 倍を引きます:", "第{i}行と第{j}行を入れ替えます:", "後退代入:", "解:"),
    "ru": ("Решите систему методом Гаусса, показав все шаги:", "Расширенная матрица:", "Из строки {i} вычитаем строку {j}, умноженную на ${f}$:", "Меняем местами строки {i} и {j}:", "Обратный ход:", "Ответ:"),
}


def matrix(rows, bar=True):
    body = " \\\\ ".join(" & ".join(latex(v) for v in row) for row in rows)
    columns = "r" * (len(rows[0]) - 1) + "|r" if bar else "r" * len(rows[0])
    return f"$$\\left(\\begin{{array}}{{{columns}}} {body} \\end{{array}}\\right)$$"


def gauss(random):
    names = ["x", "y", "z", "w"]
    for language, (ask, start, minus, swap, back, done) in GAUSS.items():
        for size in ([2, 3, 3, 4] if language == "en" else [3, 4] if language in ("de", "zh") else [2, 3]):
            while True:
                solution = [random.between(-4, 5) for _ in range(size)]
                rows = [[random.between(-3, 5) for _ in range(size)] for _ in range(size)]
                original = [row + [sum(c * s for c, s in zip(row, solution))] for row in rows]
                work = [[Fraction(v) for v in row] for row in original]
                text, singular = f"{start}\n\n{matrix(work)}", False
                for j in range(size):
                    pivot = next((i for i in range(j, size) if work[i][j]), None)
                    if pivot is None:
                        singular = True
                        break
                    if pivot != j:
                        work[j], work[pivot] = work[pivot], work[j]
                        text += "\n\n" + swap.format(i=j + 1, j=pivot + 1) + "\n\n" + matrix(work)
                    for i in range(j + 1, size):
                        factor = work[i][j] / work[j][j]
                        if factor:
                            work[i] = [p - factor * q for p, q in zip(work[i], work[j])]
                            text += "\n\n" + minus.format(i=i + 1, j=j + 1, f=latex(factor)) + "\n\n" + matrix(work)
                if not singular and max(v.denominator for row in work for v in row) < 200:
                    break
            values = {}
            text += f"\n\n{back}\n"
            for i in range(size - 1, -1, -1):
                rest = work[i][size] - sum(work[i][k] * values[k] for k in range(i + 1, size))
                values[i] = rest / work[i][i]
                known = "".join(f" - ({latex(work[i][k])}) \\cdot ({latex(values[k])})" for k in range(i + 1, size) if work[i][k])
                text += f"\n- ${names[i]} = \\left({latex(work[i][size])}{known}\\right) / ({latex(work[i][i])}) = {latex(values[i])}$"
            assert [values[i] for i in range(size)] == solution
            text += f"\n\n{done} $" + ",\\; ".join(f"{names[i]} = {values[i]}" for i in range(size)) + "$"
            system = []
            for row in original:
                left = ""
                for k in range(size):
                    left += term(row[k], 1, not left, names[k])
                system.append(f"{left or 0} &= {row[size]}")
            yield chat("math-gauss" if size < 4 else "math-gauss-long", language, ask + "\n\n$$\\begin{aligned} " + " \\\\ ".join(system) + " \\end{aligned}$$", text)


CALCULUS = {
    "en": ("Find the derivative of $f(x) = {f}$, its tangent at $x = {x}$, and the integral of $f$ from ${lo}$ to ${hi}$.", "**Derivative** (term by term, power rule)", "**Tangent** at the given point", "**Integral** with an antiderivative $F$"),
    "de": ("Bestimme die Ableitung von $f(x) = {f}$, die Tangente an der Stelle $x = {x}$ und das Integral von ${lo}$ bis ${hi}$.", "**Ableitung** (gliedweise nach der Potenzregel)", "**Tangente** an der Stelle", "**Integral** mit einer Stammfunktion $F$"),
    "fr": ("Calcule la dérivée de $f(x) = {f}$, la tangente en $x = {x}$ et l'intégrale de ${lo}$ à ${hi}$.", "**Dérivée**", "**Tangente** au point demandé", "**Intégrale**, avec une primitive $F$"),
    "zh": ("设 $f(x) = {f}$。求导数、在 $x = {x}$ 处的切线方程,以及从 ${lo}$ 到 ${hi}$ 的定积分。", "**导数**(逐项使用幂法则)", "**切线**", "**定积分**,取原函数 $F$"),
    "es": ("Halla la derivada de $f(x) = {f}$, la recta tangente en $x = {x}$ y la integral entre ${lo}$ y ${hi}$.", "**Derivada**", "**Recta tangente**", "**Integral**, con una primitiva $F$"),
    "ru": ("Найдите производную функции $f(x) = {f}$, касательную в точке $x = {x}$ и интеграл от ${lo}$ до ${hi}$.", "**Производная**", "**Касательная**", "**Интеграл** (первообразная $F$)"),
    "ja": ("$f(x) = {f}$ の導関数、$x = {x}$ における接線、${lo}$ から ${hi}$ までの定積分を求めてください。", "**導関数**", "**接線**", "**定積分**(原始関数を $F$ とします)"),
    "pt": ("Calcule a derivada de $f(x) = {f}$, a reta tangente em $x = {x}$ e a integral de ${lo}$ a ${hi}$.", "**Derivada**", "**Reta tangente**", "**Integral**, com uma primitiva $F$"),
}


def calculus(random):
    for language, (ask, head1, head2, head3) in CALCULUS.items():
        for _ in range(4 if language == "en" else 2):
            degree = random.between(2, 4)
            f = [random.between(-6, 7) for _ in range(degree)] + [random.pick([-2, -1, 1, 2, 3])]
            x = random.pick([-2, -1, 1, 2, 3])
            lo, hi = random.pick([(0, 1), (0, 2), (-1, 1), (1, 3), (-2, 1)])
            df = [k * c for k, c in enumerate(f)][1:]
            big = [Fraction(0)] + [Fraction(c, k + 1) for k, c in enumerate(f)]
            assert [k * c for k, c in enumerate(big)][1:] == f
            y, slope = evaluate(f, x), evaluate(df, x)
            total = evaluate(big, hi) - evaluate(big, lo)
            line = polynomial([y - slope * x, slope])
            answer = (
                f"{head1}\n\n$$f'(x) = {polynomial(df)}$$\n\n{head2}\n\n$$f({x}) = {y}, \\qquad f'({x}) = {slope}$$\n\n"
                f"$$t(x) = f({x}) + f'({x})\\,(x - ({x})) = {line}$$\n\n{head3}\n\n$$F(x) = {polynomial(big)}$$\n\n"
                f"$$\\int_{{{lo}}}^{{{hi}}} f(x)\\,dx = F({hi}) - F({lo}) = {latex(evaluate(big, hi))} - \\left({latex(evaluate(big, lo))}\\right) = {latex(total)}$$")
            yield chat("math-calculus", language, ask.format(f=polynomial(f), x=x, lo=lo, hi=hi), answer)


EUCLID = {
    "en": ("Compute gcd({a}, {b}) with the extended Euclidean algorithm and find integers s, t with s·{a} + t·{b} = gcd.", "The greatest common divisor is **{g}**, and {s}·{a} + ({t})·{b} = {g}."),
    "de": ("Berechne ggT({a}, {b}) mit dem erweiterten euklidischen Algorithmus.", "Der größte gemeinsame Teiler ist **{g}**, und es gilt {s}·{a} + ({t})·{b} = {g}."),
    "fr": ("Calcule le PGCD de {a} et {b} et les coefficients de Bézout.", "Le PGCD est **{g}**, et {s}·{a} + ({t})·{b} = {g}."),
    "es": ("Calcula el máximo común divisor de {a} y {b} y los coeficientes de Bézout.", "El máximo común divisor es **{g}** y se cumple {s}·{a} + ({t})·{b} = {g}."),
    "zh": ("用扩展欧几里得算法求 {a} 和 {b} 的最大公约数。", "最大公约数是 **{g}**,并且 {s}·{a} + ({t})·{b} = {g}。"),
    "ja": ("拡張ユークリッドの互除法で {a} と {b} の最大公約数を求めてください。", "最大公約数は **{g}** で、{s}·{a} + ({t})·{b} = {g} が成り立ちます。"),
    "ko": ("확장 유클리드 알고리즘으로 {a}와 {b}의 최대공약수를 구해 주세요.", "최대공약수는 **{g}**이고 {s}·{a} + ({t})·{b} = {g}입니다."),
    "ru": ("Найдите НОД чисел {a} и {b} расширенным алгоритмом Евклида.", "НОД равен **{g}**, и {s}·{a} + ({t})·{b} = {g}."),
    "tr": ("{a} ve {b} sayılarının en büyük ortak bölenini genişletilmiş Öklid algoritmasıyla bulun.", "En büyük ortak bölen **{g}** olup {s}·{a} + ({t})·{b} = {g} sağlanır."),
    "vi": ("Tìm ước chung lớn nhất của {a} và {b} bằng thuật toán Euclid mở rộng.", "Ước chung lớn nhất là **{g}** và {s}·{a} + ({t})·{b} = {g}."),
    "it": ("Calcola il massimo comun divisore di {a} e {b} con l'algoritmo di Euclide esteso.", "Il massimo comun divisore è **{g}** e vale {s}·{a} + ({t})·{b} = {g}."),
    "ar": ("احسب القاسم المشترك الأكبر للعددين {a} و{b} بخوارزمية إقليدس الموسعة.", "القاسم المشترك الأكبر هو **{g}**، ويتحقق {s}·{a} + ({t})·{b} = {g}."),
}


def euclid(random):
    for language, (ask, end) in EUCLID.items():
        for _ in range(2 if language == "en" else 1):
            common = random.pick([1, 1, 3, 6, 7, 12])
            a, b = common * random.between(40, 400), common * random.between(15, 160)
            r, s, t, rows = (a, b), (1, 0), (0, 1), []
            while r[1]:
                q = r[0] // r[1]
                rows.append([r[0], r[1], q, r[0] % r[1], s[1], t[1]])
                r, s, t = (r[1], r[0] - q * r[1]), (s[1], s[0] - q * s[1]), (t[1], t[0] - q * t[1])
            assert r[0] == gcd(a, b) == s[0] * a + t[0] * b
            table = markdown_table(["a", "b", "q", "a mod b", "s", "t"], rows, range(6))
            yield chat("math-euclid", language, ask.format(a=a, b=b), table + "\n\n" + end.format(a=a, b=b, g=r[0], s=s[0], t=t[0]))


def numbers(random):
    for _ in range(6):
        base, power, modulus = random.between(2, 20), random.between(40, 500), random.pick([13, 17, 23, 29, 97, 101, 1009])
        bits, value, rows = bin(power)[2:], 1, []
        for index, bit in enumerate(bits):
            old = value
            value = value * value % modulus
            step = f"{old}² mod {modulus} = {value}"
            if bit == "1":
                again = value * base % modulus
                step += f", times {base}: {again}"
                value = again
            rows.append([index + 1, bit, step])
        assert value == pow(base, power, modulus)
        yield chat("math-numbers", "en", random.pick([f"What is {base}^{power} mod {modulus}? Show the square-and-multiply steps.", f"Compute ${base}^{{{power}}} \\bmod {modulus}$ by hand."]),
                   f"Write the exponent in binary: {power} = {bits}₂. Start with 1; for every bit, square, and multiply by {base} when the bit is 1.\n\n{markdown_table(['Step', 'Bit', 'Result'], rows)}\n\n${base}^{{{power}}} \\equiv {value} \\pmod{{{modulus}}}$")
    for _ in range(5):
        moduli = random.sample([3, 4, 5, 7, 11, 13], 3)
        rest = [random.below(m) for m in moduli]
        product, lines, total = moduli[0] * moduli[1] * moduli[2], [], 0
        for m, r in zip(moduli, rest):
            big = product // m
            inverse = pow(big, -1, m)
            total += r * big * inverse
            lines.append(f"- $M = {product}/{m} = {big}$, and ${big} \\equiv {big % m} \\pmod{{{m}}}$ has the inverse ${inverse}$. Contribution: ${r} \\cdot {big} \\cdot {inverse} = {r * big * inverse}$.")
        x = total % product
        assert all(x % m == r for m, r in zip(moduli, rest))
        yield chat("math-numbers", "en", "Find the smallest non-negative x with " + ", ".join(f"x ≡ {r} (mod {m})" for m, r in zip(moduli, rest)) + ".",
                   "The moduli are pairwise coprime, so the Chinese remainder theorem applies.\n\n" + "\n".join(lines) + f"\n\nThe sum is {total}, and ${total} \\bmod {product} = {x}$.\n\nCheck: " + ", ".join(f"{x} mod {m} = {r}" for m, r in zip(moduli, rest)) + f". So **x = {x}**.")
    for _ in range(5):
        n = random.between(300, 20000) * random.pick([2, 4, 6, 12, 15])
        rest, steps, factors, p = n, [], {}, 2
        while rest > 1:
            if rest % p == 0:
                steps.append(f"{rest} ÷ {p} = {rest // p}")
                factors[p] = factors.get(p, 0) + 1
                rest //= p
            else:
                p += 1
                if p * p > rest > 1:
                    p = rest
        check = 1
        for p, e in factors.items():
            check *= p**e
        assert check == n
        count, total = 1, 1
        for p, e in factors.items():
            count *= e + 1
            total *= (p ** (e + 1) - 1) // (p - 1)
        assert count == sum(1 for d in range(1, n + 1) if n % d == 0)
        product = " \\cdot ".join(f"{p}^{{{e}}}" if e > 1 else str(p) for p, e in factors.items())
        yield chat("math-numbers", "en", random.pick([f"Factor {n} and tell me how many divisors it has.", f"prime factorization of {n}?", f"How many divisors does {n} have, and what is their sum?"]),
                   "Divide by the smallest prime that goes in, again and again:\n\n```\n" + "\n".join(steps) + f"\n```\n\n$${n} = {product}$$\n\nNumber of divisors: " + " · ".join(f"({e} + 1)" for e in factors.values()) + f" = **{count}**. Their sum is **{total}**.")


def probability(random):
    for _ in range(6):
        red, blue, draw = random.between(3, 8), random.between(3, 9), random.between(2, 4)
        all_ = comb(red + blue, draw)
        rows, mean = [], Fraction(0)
        for k in range(max(0, draw - blue), min(red, draw) + 1):
            p = Fraction(comb(red, k) * comb(blue, draw - k), all_)
            mean += k * p
            rows.append([k, f"{comb(red, k)} · {comb(blue, draw - k)} = {comb(red, k) * comb(blue, draw - k)}", p, f"{float(p):.4f}"])
        assert mean == Fraction(draw * red, red + blue)
        yield chat("math-probability", "en", f"An urn holds {red} red and {blue} blue balls. I draw {draw} without putting them back. What is the distribution of the number of red balls, and its mean?",
                   f"There are $\\binom{{{red + blue}}}{{{draw}}} = {all_}$ equally likely draws. For $k$ red ones, count $\\binom{{{red}}}{{k}} \\binom{{{blue}}}{{{draw} - k}}$.\n\n{markdown_table(['k', 'Favourable', 'Probability', 'Decimal'], rows, (0,))}\n\nThe mean is ${draw} \\cdot \\frac{{{red}}}{{{red + blue}}} = {latex(mean)}$, and the table agrees.")
    for _ in range(5):
        dice = random.between(2, 3)
        target = random.between(4, 6 * dice - 2)
        counts = {0: 1}
        for _ in range(dice):
            fresh = {}
            for total, ways in counts.items():
                for face in range(1, 7):
                    fresh[total + face] = fresh.get(total + face, 0) + ways
            counts = fresh
        exact, above = counts.get(target, 0), sum(w for s, w in counts.items() if s >= target)
        table = markdown_table(["Sum", "Ways"], sorted(counts.items()), (0, 1))
        yield chat("math-probability", "en", f"I roll {dice} dice. How likely is a sum of exactly {target}, and of at least {target}?",
                   f"There are $6^{dice} = {6**dice}$ outcomes.\n\n{table}\n\n- Exactly {target}: {exact} of {6**dice}, that is ${latex(Fraction(exact, 6**dice))} \\approx {exact / 6**dice * 100:.2f}\\%$\n- At least {target}: {above} of {6**dice}, that is ${latex(Fraction(above, 6**dice))} \\approx {above / 6**dice * 100:.2f}\\%$")
    for _ in range(4):
        n, k, p = random.between(5, 12), random.between(1, 4), Fraction(random.pick([1, 1, 1, 2, 3]), random.pick([4, 5, 10]))
        chance = comb(n, k) * p**k * (1 - p) ** (n - k)
        none = (1 - p) ** n
        yield chat("math-probability", "en", f"A machine makes faulty parts with probability {p}. What is the chance of exactly {k} faulty in a batch of {n}? And of at least one?",
                   f"The number of faulty parts is binomial with $n = {n}$, $p = {latex(p)}$.\n\n$$P(X = {k}) = \\binom{{{n}}}{{{k}}} p^{k} (1-p)^{{{n - k}}} = {comb(n, k)} \\cdot \\left({latex(p)}\\right)^{k} \\cdot \\left({latex(1 - p)}\\right)^{{{n - k}}} \\approx {float(chance):.5f}$$\n\n$$P(X \\ge 1) = 1 - \\left({latex(1 - p)}\\right)^{{{n}}} \\approx {float(1 - none):.5f}$$")


STATISTICS = {
    "en": ("Compute mean, median, range and standard deviation (n − 1) of: {v}", "Sorted", "Mean", "Median", "Range", "Sum of squared deviations", "Standard deviation"),
    "de": ("Berechne Mittelwert, Median, Spannweite und Standardabweichung (n − 1): {v}", "Sortiert", "Mittelwert", "Median", "Spannweite", "Summe der quadrierten Abweichungen", "Standardabweichung"),
    "fr": ("Calcule la moyenne, la médiane, l'étendue et l'écart-type (n − 1) de : {v}", "Valeurs triées", "Moyenne", "Médiane", "Étendue", "Somme des carrés des écarts", "Écart-type"),
    "es": ("Calcula media, mediana, rango y desviación típica (n − 1): {v}", "Ordenados", "Media", "Mediana", "Rango", "Suma de desviaciones al cuadrado", "Desviación típica"),
    "zh": ("求下列数据的平均数、中位数、极差和标准差(n − 1):{v}", "排序后", "平均数", "中位数", "极差", "离差平方和", "标准差"),
    "ja": ("次のデータの平均、中央値、範囲、標準偏差(n − 1)を求めてください:{v}", "並べ替え", "平均", "中央値", "範囲", "偏差平方和", "標準偏差"),
    "ko": ("다음 자료의 평균, 중앙값, 범위, 표준편차(n − 1)를 구해 주세요: {v}", "정렬", "평균", "중앙값", "범위", "편차 제곱합", "표준편차"),
    "ru": ("Найдите среднее, медиану, размах и стандартное отклонение (n − 1): {v}", "По возрастанию", "Среднее", "Медиана", "Размах", "Сумма квадратов отклонений", "Стандартное отклонение"),
    "pt": ("Calcule média, mediana, amplitude e desvio padrão (n − 1): {v}", "Ordenados", "Média", "Mediana", "Amplitude", "Soma dos quadrados dos desvios", "Desvio padrão"),
    "hi": ("इन आँकड़ों का माध्य, माध्यिका, परास और मानक विचलन (n − 1) ज्ञात कीजिए: {v}", "क्रम में", "माध्य", "माध्यिका", "परास", "विचलनों के वर्गों का योग", "मानक विचलन"),
    "id": ("Hitung rata-rata, median, jangkauan, dan simpangan baku (n − 1) dari: {v}", "Terurut", "Rata-rata", "Median", "Jangkauan", "Jumlah kuadrat simpangan", "Simpangan baku"),
    "tr": ("Ortalama, medyan, açıklık ve standart sapmayı (n − 1) hesaplayın: {v}", "Sıralı", "Ortalama", "Medyan", "Açıklık", "Sapma kareleri toplamı", "Standart sapma"),
}


def statistics(random):
    for language, (ask, ordered, mean_, median_, range_, squares_, deviation_) in STATISTICS.items():
        for _ in range(2 if language == "en" else 1):
            n = random.pick([5, 8, 10])
            values = [random.between(2, 60) for _ in range(n)]
            ranked, mean = sorted(values), Fraction(sum(values), n)
            median = Fraction(ranked[(n - 1) // 2] + ranked[n // 2], 2)
            squares = sum((v - mean) ** 2 for v in values)
            answer = "\n".join([
                f"- {ordered}: {', '.join(map(str, ranked))}", f"- {mean_}: {sum(values)} / {n} = **{plain(mean)}**",
                f"- {median_}: **{plain(median)}**", f"- {range_}: {ranked[-1]} − {ranked[0]} = **{ranked[-1] - ranked[0]}**",
                f"- {squares_}: $\\sum (x_i - \\bar x)^2 = {plain(squares)}$",
                f"- {deviation_}: $s = \\sqrt{{\\frac{{{plain(squares)}}}{{{n - 1}}}}} \\approx {float(squares / (n - 1)) ** 0.5:.3f}$"])
            yield chat("math-statistics", language, ask.format(v=", ".join(map(str, values))), answer)


def money(random):
    """Loans to the cent, integers throughout."""
    for months in (12, 12, 24, 60, 48):
        cents, rate = random.between(20, 120) * 10000, random.pick([3, 4, 5, 6, 8])
        monthly = Fraction(rate, 1200)
        payment = round(cents * monthly / (1 - (1 + monthly) ** -months))
        rest, rows, interest_sum = cents, [], 0
        for month in range(1, months + 1):
            interest = round(rest * monthly)
            pay = payment if month < months else rest + interest
            rest -= pay - interest
            interest_sum += interest
            rows.append([month] + [f"{x // 100:,}.{x % 100:02d}" for x in (pay, interest, pay - interest, rest)])
        assert rest == 0
        show = lambda x: f"{x // 100:,}.{x % 100:02d}"
        yield chat("math-money-long" if months > 12 else "math-money", "en",
                   f"Make an amortization table for a loan of {show(cents)} at {rate}% a year, paid back in {months} equal monthly payments.",
                   f"The monthly rate is $i = {rate}\\%/12$, and the payment is\n\n$$A = \\frac{{K \\cdot i}}{{1 - (1+i)^{{-{months}}}}} = {show(payment).replace(',', '')}$$\n\n{markdown_table(['Month', 'Payment', 'Interest', 'Principal', 'Balance'], rows, range(5))}\n\nThe last payment differs by a few cents because each line is rounded. Interest in total: **{show(interest_sum)}**.")


def newton(random):
    for number in random.sample([2, 3, 5, 7, 10, 19, 31, 50], 4):
        x, lines = Fraction(max(1, isqrt(number))), []
        for step in range(5):
            lines.append([step, f"{float(x):.12f}", f"{float(x * x - number):.2e}"])
            x = (x + number / x) / 2
        yield chat("math-newton", "en", f"Approximate sqrt({number}) with Newton's method, starting at {max(1, isqrt(number))}. Show the iterations.",
                   f"We look for the zero of $f(x) = x^2 - {number}$. Newton's step is\n\n$$x_{{k+1}} = x_k - \\frac{{f(x_k)}}{{f'(x_k)}} = \\frac12\\left(x_k + \\frac{{{number}}}{{x_k}}\\right).$$\n\n{markdown_table(['k', 'x', 'x² − ' + str(number)], lines, (0,))}\n\nThe number of correct digits about doubles with every step (quadratic convergence).")


def make():
    random = Random("mathematics")
    for maker in (stories, quadratics, gauss, calculus, euclid, numbers, probability, statistics, money, newton):
        yield from maker(random)
